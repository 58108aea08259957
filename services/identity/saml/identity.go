package saml

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	saml2 "github.com/crewjam/saml"
)

// Bounds of what a provider says of somebody.
const (
	maxAttributes = 64 << 10 // bytes of all of them, as JSON
	maxGroups     = 1_000
)

// Identity is somebody as a provider vouches for them.
type Identity struct {
	NameID     string
	Attributes map[string][]string // by name, without the groups
	Groups     []string            // of the provider, each once

	// What is known of the attributes; "" for what was not told.
	Email, Phone          string
	GivenName, FamilyName string

	// Ends is when the provider wants the session over; zero when it does not say.
	Ends time.Time
}

// The names of attributes by which providers tell the same: short ones, those of claims,
// and object identifiers.
var (
	namesOfEmail = []string{
		"email", "mail", "emailAddress", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress", "urn:oid:0.9.2342.19200300.100.1.3",
	}
	namesOfPhone = []string{
		"phone", "mobile", "telephoneNumber", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/mobilephone",
		"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/homephone", "urn:oid:0.9.2342.19200300.100.1.41", "urn:oid:2.5.4.20",
	}
	namesOfGivenName = []string{
		"given_name", "givenName", "firstName", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname", "urn:oid:2.5.4.42",
	}
	namesOfFamilyName = []string{
		"family_name", "sn", "surname", "lastName", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname", "urn:oid:2.5.4.4",
	}
	namesOfGroups = []string{
		"member", "memberOf", "groups", "http://schemas.xmlsoap.org/claims/Group",
		"http://schemas.microsoft.com/ws/2008/06/identity/claims/groups", "urn:oid:1.3.6.1.4.1.5923.1.5.1.1",
	}
)

// GroupAttributes are the names of attributes that list the groups of somebody.
func GroupAttributes() []string { return slices.Clone(namesOfGroups) }

// identity reads an assertion that was verified.
func identity(a *saml2.Assertion) (Identity, error) {
	name := a.Subject.NameID
	if name == nil || strings.TrimSpace(name.Value) == "" {
		return Identity{}, refuse("NAME_ID_MISSING", nil)
	}
	if name.Format == string(saml2.TransientNameIDFormat) {
		return Identity{}, refuse("NAME_ID_TRANSIENT", errors.New("the same person has another one the next time"))
	}
	who := Identity{NameID: strings.TrimSpace(name.Value), Attributes: map[string][]string{}}
	for _, statement := range a.AttributeStatements {
		for _, attribute := range statement.Attributes {
			for _, v := range attribute.Values {
				if !v.Nil {
					who.add(attribute.Name, strings.TrimSpace(v.Value))
				}
			}
		}
	}
	if len(who.Groups) > maxGroups {
		return Identity{}, refuse("TOO_MANY_GROUPS", fmt.Errorf("%d groups", len(who.Groups)))
	}
	text, err := json.Marshal(who.Attributes)
	if err != nil {
		return Identity{}, fmt.Errorf("write attributes: %w", err)
	}
	if len(text) > maxAttributes {
		return Identity{}, refuse("TOO_LARGE", fmt.Errorf("attributes of %d bytes", len(text)))
	}
	who.Email, who.Phone = who.first(namesOfEmail), who.first(namesOfPhone)
	who.GivenName, who.FamilyName = who.first(namesOfGivenName), who.first(namesOfFamilyName)
	for _, s := range a.AuthnStatements {
		if at := s.SessionNotOnOrAfter; at != nil && (who.Ends.IsZero() || at.Before(who.Ends)) {
			who.Ends = *at
		}
	}
	return who, nil
}

func (i *Identity) add(name, value string) {
	switch {
	case slices.Contains(namesOfGroups, name):
		if value != "" && !slices.Contains(i.Groups, value) {
			i.Groups = append(i.Groups, value)
		}
	default:
		i.Attributes[name] = append(i.Attributes[name], value)
	}
}

// first is the first value of the first of the names that has one.
func (i *Identity) first(names []string) string {
	for _, name := range names {
		if values := i.Attributes[name]; len(values) > 0 && values[0] != "" {
			return values[0]
		}
	}
	return ""
}
