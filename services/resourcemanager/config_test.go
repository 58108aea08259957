package resourcemanager

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	err := Config{FoldersPerCloud: -1, DeletionDelay: -time.Hour}.Validate()
	if err == nil || !strings.Contains(err.Error(), "folders per cloud") || !strings.Contains(err.Error(), "deletion delay") {
		t.Errorf("Validate = %v, want both problems", err)
	}
	want := Config{CloudsPerOrganization: 7, FoldersPerCloud: 50, OrganizationsPerSubject: 10, DeletionDelay: 24 * time.Hour}
	if diff := cmp.Diff(want, Config{CloudsPerOrganization: 7}.withDefaults()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if err := want.Validate(); err != nil {
		t.Errorf("Validate of the defaults: %v", err)
	}
}
