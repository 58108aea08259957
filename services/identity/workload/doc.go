// Package workload reads the tokens by which programs elsewhere prove who they are: a
// job of a CI service, a pod of a cluster. It knows neither the store nor the network;
// the keys of an issuer are read by package outbound.
//
// A token is taken in three steps (WI-1): Parse, which takes it apart and judges what
// needs no secret; Token.For, which compares it with what a federation trusts, before
// anything is read anywhere; Token.Verify, which proves that the issuer has signed it.
package workload
