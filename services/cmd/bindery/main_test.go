package main

import (
	"os"
	"testing"
)

// asProgram makes the test binary be the program: a process of its own, with its own
// standard error, whose flags and environment are those of the program.
const asProgram = "BINDERY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
