// Package checkertest is a second reading of the rules by which package checker
// decides: straight from their sentences, by brute force over plain lists, made
// to be obviously right and not to be fast. It shares no code and no type with
// checker, and knows neither graph nor revision. Tests compare the two, and the
// Authorize RPC, on random worlds (Generate), and on worlds that somebody wrote
// down (Scenario).
//
// A thing is named as in rule SU-4, by its type and its id: userAccount:ann,
// system:allUsers, resource-manager.folder:f1.
package checkertest
