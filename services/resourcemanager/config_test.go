package resourcemanager

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	err := Config{DeletionDelay: -time.Hour}.Validate()
	if err == nil || !strings.Contains(err.Error(), "deletion delay") {
		t.Errorf("Validate = %v, want the problem", err)
	}
	if got := (Config{}).withDefaults(); got.DeletionDelay != 24*time.Hour || got.Validate() != nil {
		t.Errorf("defaults: %+v (%v)", got, got.Validate())
	}
}
