package partner

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/email"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// Who suspended a customer (SC-8).
const (
	byPartner  = "PARTNER"
	byPlatform = "PLATFORM"
)

// Customer is what is known of the customer of a subaccount.
type Customer struct {
	Account
	Email        string // folded; "" for one whom the partner serves itself
	Person       *billingv1.CustomerPerson
	ExternalID   string
	Comment      string
	Organization string // "" until it is chosen
	CreatorType  string
	CreatorID    string
	Sends        int64
	SuspendedBy  string
	Reason       string // of the suspension
}

// public is the message of the platform.
func (c Customer) public() *billingv1.Customer {
	return &billingv1.Customer{Id: c.ID, BillingAccountId: c.ID}
}

// proto is our own message, with who suspended it, when and why (SC-5). Without the right to see personal data, names of people,
// phones and addresses are left out (PT-23).
func (c Customer) proto(keepFor time.Duration, personal bool) *partnerv1.Subaccount {
	p := &partnerv1.Subaccount{
		Id: c.ID, ResellerId: c.PartnerID, Name: c.Name, CreatedAt: timestamppb.New(c.CreatedAt),
		State:      partnerv1.BillingAccount_State(partnerv1.BillingAccount_State_value[string(c.State)]),
		ExternalId: c.ExternalID, Comment: c.Comment, SuspensionReason: c.Reason,
		SuspendedBy: partnerv1.Subaccount_SuspendedBy(partnerv1.Subaccount_SuspendedBy_value[c.SuspendedBy]),
	}
	if c.State != AcceptanceRequired {
		p.OrganizationId = c.Organization
	}
	if c.State == Suspended {
		p.SuspendedAt = timestamppb.New(c.SuspendedAt)
		p.DataKeptUntil = timestamppb.New(c.SuspendedAt.Add(keepFor))
	}
	if personal {
		p.InvitationEmail, p.Person = c.Email, c.Person
		return p
	}
	p.PersonalDataHidden = true
	p.Person = &billingv1.CustomerPerson{
		Name: c.Person.GetName(), Longname: c.Person.GetLongname(), LegalAddress: c.Person.GetLegalAddress(), Tin: c.Person.GetTin(),
	}
	return p
}

// invitation is what the invited person sees.
func (c Customer) invitation(resellerName string) *partnerv1.InvitationToSubaccount {
	p := &partnerv1.InvitationToSubaccount{
		SubaccountId: c.ID, Name: c.Name, ResellerName: resellerName,
		State: partnerv1.BillingAccount_State(partnerv1.BillingAccount_State_value[string(c.State)]),
	}
	if c.State == Active {
		p.OrganizationId = c.Organization
	}
	return p
}

// tin is the number of a taxpayer: INN, BIN or TIN (PT-5).
var tin = regexp.MustCompile(`^[0-9]{8,12}$`)

// Longest texts of legal data, in characters.
const (
	maxName    = 256
	maxAddress = 1000
)

// checkCustomer collects what is wrong with the data of a customer.
func checkCustomer(name, invitation string, p *billingv1.CustomerPerson, admins []string) error {
	var bad []apierr.Field
	refuse := func(field, format string, args ...any) {
		bad = append(bad, apierr.Field{Name: field, Message: fmt.Sprintf(format, args...)})
	}
	if n := utf8.RuneCountInString(name); n > maxName {
		refuse("name", "must have at most %d characters", maxName)
	}
	if invitation != "" {
		if problem := email.Problem(invitation); problem != "" {
			refuse("invitation_email", "%s", problem)
		}
	}
	if p.GetName() == "" {
		refuse("person.name", "is required (PT-6)")
	}
	for _, f := range []struct {
		name, text string
		most       int
	}{
		{"person.name", p.GetName(), maxName}, {"person.longname", p.GetLongname(), maxName}, {"person.phone", p.GetPhone(), 50},
		{"person.post_code", p.GetPostCode(), 50}, {"person.post_address", p.GetPostAddress(), maxAddress},
		{"person.legal_address", p.GetLegalAddress(), maxAddress},
	} {
		if utf8.RuneCountInString(f.text) > f.most {
			refuse(f.name, "must have at most %d characters", f.most)
		}
	}
	if p.GetEmail() != "" {
		if problem := email.Problem(p.GetEmail()); problem != "" {
			refuse("person.email", "%s", problem)
		}
	}
	if p.GetTin() != "" && !tin.MatchString(p.GetTin()) {
		refuse("person.tin", "must have 8 to 12 digits (PT-5)")
	}
	for i, address := range admins {
		if problem := email.Problem(address); problem != "" {
			refuse(fmt.Sprintf("admin_emails[%d]", i), "%s", problem)
		}
	}
	if len(bad) > 0 {
		return apierr.Invalid(bad...)
	}
	return nil
}

// encodePerson writes legal data as it is stored.
func encodePerson(p *billingv1.CustomerPerson) (string, error) {
	raw, err := protojson.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode person: %w", err)
	}
	// protojson spaces at random; what is stored is the same each time.
	var any json.RawMessage = raw
	text, err := json.Marshal(any)
	return string(text), err
}

func decodePerson(text string) (*billingv1.CustomerPerson, error) {
	p := new(billingv1.CustomerPerson)
	if err := protojson.Unmarshal([]byte(text), p); err != nil {
		return nil, fmt.Errorf("read person: %w", err)
	}
	return p, nil
}
