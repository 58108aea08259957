// Package id makes the ids of resources, subjects and operations.
//
// An id is a prefix of three lower-case letters, which says what it names, and
// 17 random characters of the alphabet 0-9a-v: 85 random bits, so that the
// existence of a resource cannot be probed. Ids are never used twice.
package id

import "crypto/rand"

// Prefixes of the ids in use. A prefix never changes its meaning.
const (
	Organization   = "org"
	Cloud          = "cld"
	Folder         = "fld"
	User           = "usr"
	ServiceAccount = "sac"
	AuthorizedKey  = "aky"
	APIKey         = "apk"
	AccessKey      = "ack" // the resource; the key id that signs is another one
	Group          = "grp"
	GrantPolicy    = "gpl"
	RoleRequest    = "rrq"
	Ticket         = "tkt"
	Attachment     = "att"
	Invitation     = "inv"
	Federation     = "fed" // of SAML
	Certificate    = "crt" // of a federation
	FederatedUser  = "fus"
	RefreshToken   = "rft"
	QuotaRequest   = "qrq"
	OsLoginProfile = "olp"
	UserSSHKey     = "usk"

	OAuthClient       = "oac"
	OAuthClientSecret = "oas"

	WorkloadFederation  = "wif"
	FederatedCredential = "fcr"

	Delivery       = "dlv"
	Subscriber     = "sbs"
	Notice         = "ntc"
	BillingAccount = "bac"
	Budget         = "bdg"
	ReferralLink   = "rfl"
	Withdrawal     = "wdr"

	Publisher       = "pub"
	Product         = "prd"
	ProductInstance = "pin"
	AccessRequest   = "par" // for a product
	CustomerAccess  = "cac" // of somebody of a partner

	OperationResourceManager = "orm"
	OperationAccessBindings  = "oab"
	OperationIdentity        = "oid"
	OperationNotifications   = "ont"
	OperationPartner         = "opa"
	OperationMarketplace     = "omp"
)

const (
	alphabet   = "0123456789abcdefghijklmnopqrstuv" // 32 characters, 5 bits each
	prefixSize = 3
	randomSize = 17

	// Size is the number of characters in an id.
	Size = prefixSize + randomSize
)

// New returns a new id: the prefix and 17 random characters. The prefix is one
// of this package's constants.
func New(prefix string) string {
	b := make([]byte, randomSize)
	_, _ = rand.Read(b) // never fails: the runtime ends the process instead
	for i, c := range b {
		b[i] = alphabet[c%byte(len(alphabet))] // 256 is a multiple of 32: no bias
	}
	return prefix + string(b)
}

// Prefix returns the first three characters of an id, and "" for a text that
// New does not make.
func Prefix(s string) string {
	if !Valid(s) {
		return ""
	}
	return s[:prefixSize]
}

// Valid reports whether s has the form of an id: three lower-case letters, then
// 17 characters of the alphabet.
func Valid(s string) bool {
	if len(s) != Size {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'v'
		if i < prefixSize {
			letter = 'a' <= c && c <= 'z'
		}
		digit := '0' <= c && c <= '9' && i >= prefixSize
		if !letter && !digit {
			return false
		}
	}
	return true
}
