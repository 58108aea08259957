// Package audit writes the audit record of a change into the transaction that
// makes the change (rules AU): there is no change without its record, and no
// record of a change that did not happen.
package audit

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the table <unit>_audit.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_audit", Unit: unit, FS: files}
}

// Record is one audit event, in the form of rules AU.
type Record struct {
	EventID          string           `json:"event_id"`     // made by Write when empty
	EventSource      string           `json:"event_source"` // service, e.g. "resourcemanager"
	EventType        string           `json:"event_type"`   // "bindery.audit.resourcemanager.CreateFolder"
	EventTime        time.Time        `json:"event_time"`
	EventStatus      Status           `json:"event_status"`
	Authentication   Authentication   `json:"authentication"`
	Authorization    Authorization    `json:"authorization"`
	ResourceMetadata ResourceMetadata `json:"resource_metadata"`
	RequestMetadata  RequestMetadata  `json:"request_metadata"`
	Details          any              `json:"details,omitempty"` // without secrets
}

// Status is how a recorded event ended.
type Status string

// Statuses of events.
const (
	Started   Status = "STARTED"
	Done      Status = "DONE"
	Failed    Status = "ERROR"
	Cancelled Status = "CANCELLED"
)

// Authentication says who made the change.
type Authentication struct {
	Authenticated bool   `json:"authenticated"`
	SubjectType   string `json:"subject_type,omitempty"`
	SubjectID     string `json:"subject_id,omitempty"`
	SubjectName   string `json:"subject_name,omitempty"`
	Unit          string `json:"unit,omitempty"` // the unit that acted for the subject, or by itself
}

// Authorization says what was checked.
type Authorization struct {
	Authorized  bool         `json:"authorized"`
	Permissions []Permission `json:"permissions,omitempty"`
}

// Permission is one check.
type Permission struct {
	Permission   string `json:"permission"`
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id"`
	Authorized   bool   `json:"authorized"`
}

// ResourceMetadata names the changed resource by its path.
type ResourceMetadata struct {
	Path []Resource `json:"path"`
}

// Resource is one step of a path.
type Resource struct {
	Type string `json:"resource_type"`
	ID   string `json:"resource_id"`
	Name string `json:"resource_name,omitempty"`
}

// RequestMetadata says where the request came from.
type RequestMetadata struct {
	RemoteAddress string `json:"remote_address,omitempty"`
	UserAgent     string `json:"user_agent,omitempty"`
	RequestID     string `json:"request_id,omitempty"`
}

// eventPrefix begins every event_type.
const eventPrefix = "bindery.audit."

// EventType returns the full type of an event, e.g. of "resourcemanager" and
// "CreateFolder" (AU-1).
func EventType(source, event string) string { return eventPrefix + source + "." + event }

// idPrefix begins the ids of audit records.
const idPrefix = "aud"

// Write writes a record into <unit>_audit within the transaction of its change.
func Write(ctx context.Context, tx *sql.Tx, unit string, r Record) error {
	if r.EventType == "" || r.EventSource == "" || r.EventTime.IsZero() || r.EventStatus == "" {
		return errors.New("write audit record: it lacks its source, type, time or status")
	}
	if r.EventID == "" {
		r.EventID = id.New(idPrefix)
	}
	r.EventTime = r.EventTime.UTC()
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	_, err = tx.ExecContext(ctx, strings.ReplaceAll(`
		INSERT INTO {{unit}}_audit (id, event_time, event_type, record) VALUES ($1, $2, $3, $4)`, "{{unit}}", unit),
		r.EventID, sqldb.Micros(r.EventTime), r.EventType, string(text))
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return nil
}
