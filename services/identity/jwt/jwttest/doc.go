// Package jwttest makes JSON Web Tokens for tests: good ones as the official clients
// make them, and a corpus of bad ones, nearly all of them well signed, so that it is
// the defect by which they are refused.
package jwttest
