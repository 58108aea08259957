package partner

import (
	"testing"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// The mail to somebody who is given access is one that notifications takes.
func TestPT20_TheInvitedAreMailed(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		must(w.partners.AddUser(w.as(ann), &partnerv1.AddUserRequest{
			BillingAccountId: account, Email: "Some.Body+new@elsewhere.example", RoleIds: []string{"billing.accounts.viewer"},
		}))(t)
		w.settled()
		var n int
		if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_notices WHERE event = 'partner.user_invited'`).Scan(&n); err != nil || n != 1 {
			t.Errorf("%d notices (%v)", n, err)
		}
	})
}
