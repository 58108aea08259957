package e2e

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDoors goes through the scenario with every official client and over REST, on
// either engine and with split units, and compares what they were given.
func TestDoors(t *testing.T) {
	steps := loadScenario(t)
	eachForm(t, func(t *testing.T, s *server) {
		v1, v2 := goClient(t, "gosdkv1"), goClient(t, "gosdkv2")
		doors := []struct {
			name string
			open func(t *testing.T) door
		}{
			{"rest", func(*testing.T) door { return newREST(s) }},
			{"gosdkv1-plaintext", func(t *testing.T) door {
				return startClient(t, nil, v1, "-endpoint", s.grpc, "-plaintext")
			}},
			{"gosdkv1-tls", func(t *testing.T) door {
				return startClient(t, nil, v1, "-endpoint", s.grpc, "-ca", s.caFile())
			}},
			{"gosdkv2-plaintext", func(t *testing.T) door {
				return startClient(t, nil, v2, "-endpoint", s.grpc, "-plaintext")
			}},
			{"gosdkv2-tls", func(t *testing.T) door {
				return startClient(t, []string{"SSL_CERT_FILE=" + s.caFile()}, v2, "-endpoint", s.grpc)
			}},
			{"nodesdk", func(t *testing.T) door { return nodeClient(t, s) }},
		}
		var first []result
		for _, d := range doors {
			t.Run(d.name, func(t *testing.T) {
				given := play(t, s, d.open(t), steps)
				if first == nil {
					first = given
					return
				}
				for i, st := range steps {
					if diff := cmp.Diff(first[i], given[i]); diff != "" {
						t.Errorf("%s: another answer than %s had (-%[2]s +%[3]s):\n%[4]s", st.Name, doors[0].name, d.name, diff)
					}
				}
			})
		}
	})
}

// TestScenarioIsWhole holds the scenario to what it promises: every call of the
// REST table is made by some step.
func TestScenarioIsWhole(t *testing.T) {
	made := map[string]bool{}
	for _, st := range loadScenario(t) {
		made[st.Call] = true
	}
	for name := range routes {
		if !made[name] {
			t.Errorf("no step calls %s", name)
		}
	}
}

// TestClientsSpeakTheSameProtocol keeps the two copies of protocol.go equal: the
// Go clients are modules that cannot share a package without a third.
func TestClientsSpeakTheSameProtocol(t *testing.T) {
	v1, err := os.ReadFile("gosdkv1/protocol.go")
	if err != nil {
		t.Fatal(err)
	}
	v2, err := os.ReadFile("gosdkv2/protocol.go")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(v1), string(v2)); diff != "" {
		t.Errorf("protocol.go differs (-gosdkv1 +gosdkv2):\n%s", diff)
	}
}
