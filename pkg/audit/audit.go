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
	"slices"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
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

	// Who acts as the subject (IM-1), when it is not the subject itself.
	ActorType string `json:"actor_type,omitempty"`
	ActorID   string `json:"actor_id,omitempty"`
}

// By says in a record who makes a call.
func By(p authn.Principal) Authentication {
	return Authentication{
		Authenticated: p.IsSubject() || p.Unit != "", SubjectType: p.Type, SubjectID: p.ID, Unit: p.Unit,
		ActorType: p.Actor.Type, ActorID: p.Actor.ID,
	}
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

// ResourceMetadata names the changed resource by its path: all that it lies in, the
// organization first, and itself last. The trail of each of them shows the record.
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
	text, err := r.complete()
	if err != nil {
		return err
	}
	at := sqldb.Micros(r.EventTime)
	_, err = tx.ExecContext(ctx, strings.ReplaceAll(`
		INSERT INTO {{unit}}_audit (id, event_time, event_type, subject_id, record) VALUES ($1, $2, $3, $4, $5)`, "{{unit}}", unit),
		r.EventID, at, r.EventType, r.Authentication.SubjectID, text)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return place(ctx, tx, unit, r, at)
}

// complete gives a record its id, and returns it as it is stored.
func (r *Record) complete() (text string, err error) {
	if r.EventType == "" || r.EventSource == "" || r.EventTime.IsZero() || r.EventStatus == "" {
		return "", errors.New("write audit record: it lacks its source, type, time or status")
	}
	if r.EventID == "" {
		r.EventID = id.New(idPrefix)
	}
	r.EventTime = r.EventTime.UTC()
	b, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("write audit record: %w", err)
	}
	return string(b), nil
}

// Records are those of several changes that one transaction makes.
type Records struct{ records, places sqldb.Rows }

// Add adds a record, as Write takes it.
func (all *Records) Add(r Record) error {
	text, err := r.complete()
	if err != nil {
		return err
	}
	at, who := sqldb.Micros(r.EventTime), r.Authentication.SubjectID
	all.records.Add(r.EventID, at, r.EventType, who, text)
	for _, step := range r.steps() {
		all.places.Add(r.EventID, at, r.EventType, who, step.Type, step.ID)
	}
	return nil
}

// Write adds to a batch what stores the records, as Write does.
func (all *Records) Write(b *sqldb.Batch, unit string) {
	all.records.Columns = []sqldb.Type{sqldb.Texts, sqldb.Ints, sqldb.Texts, sqldb.Texts, sqldb.Texts}
	all.places.Columns = append(all.records.Columns[:4:4], sqldb.Texts, sqldb.Texts)
	b.ExecRows(`INSERT INTO `+unit+`_audit (id, event_time, event_type, subject_id, record)`, &all.records, ``)
	b.ExecRows(`INSERT INTO `+unit+`_audit_resources (id, event_time, event_type, subject_id, resource_type, resource_id)`, &all.places, ``)
}

// steps are those of the path, each once.
func (r *Record) steps() []Resource {
	var steps []Resource
	for _, step := range r.ResourceMetadata.Path {
		if !slices.ContainsFunc(steps, func(o Resource) bool { return o.Type == step.Type && o.ID == step.ID }) {
			steps = append(steps, step)
		}
	}
	return steps
}

// place makes the record found by each step of its path.
func place(ctx context.Context, tx *sql.Tx, unit string, r Record, at int64) error {
	args := []any{r.EventID, at, r.EventType, r.Authentication.SubjectID}
	var rows []string
	for _, step := range r.steps() {
		args = append(args, step.Type, step.ID)
		rows = append(rows, fmt.Sprintf("($1, $2, $3, $4, $%d, $%d)", len(args)-1, len(args)))
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, strings.ReplaceAll(`
		INSERT INTO {{unit}}_audit_resources (id, event_time, event_type, subject_id, resource_type, resource_id)
		VALUES `, "{{unit}}", unit)+strings.Join(rows, ", "), args...)
	if err != nil {
		return fmt.Errorf("write resources of an audit record: %w", err)
	}
	return nil
}
