package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDoors goes through the scenario with every official client and over REST, on
// either engine and with split units, and compares what they were given.
func TestDoors(t *testing.T) {
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
		first := map[string][]result{}
		for _, d := range doors {
			t.Run(d.name, func(t *testing.T) {
				through := d.open(t)
				for _, scenario := range scenarios {
					steps := loadScenario(t, scenario)
					t.Run(scenario, func(t *testing.T) {
						given := play(t, s, d.name, through, steps)
						for i, st := range steps {
							given[i].Message, _ = known(st.Call, given[i].Message).(map[string]any)
						}
						if first[scenario] == nil {
							first[scenario] = given
							return
						}
						for i, st := range steps {
							if slices.Contains(st.Lack, d.name) {
								continue
							}
							if diff := cmp.Diff(first[scenario][i], given[i]); diff != "" {
								t.Errorf("%s: another answer than %s had (-%[2]s +%[3]s):\n%[4]s", st.Name, doors[0].name, d.name, diff)
							}
						}
					})
				}
			})
		}
	})
}

// unknown are fields that version 3.2.0 of the Node SDK does not have.
var unknown = map[string]string{"serviceAccount": "status", "apiKey": "maskedSecret"}

// known drops what one of the clients does not know.
func known(call string, value any) any {
	service, _, _ := strings.Cut(call, ".")
	field, ok := unknown[service]
	if !ok {
		return value
	}
	switch v := value.(type) {
	case map[string]any:
		delete(v, field)
		for key, item := range v {
			v[key] = known(call, item)
		}
	case []any:
		for i, item := range v {
			v[i] = known(call, item)
		}
	}
	return value
}

// TestScenarioIsWhole holds the scenario to what it promises: every call of the
// REST table is made by some step.
func TestScenarioIsWhole(t *testing.T) {
	made := map[string]bool{}
	for _, scenario := range scenarios {
		for _, st := range loadScenario(t, scenario) {
			made[st.Call] = true
		}
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
