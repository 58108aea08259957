package idempotency_test

import (
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

var wellFormed = regexp.MustCompile(`^[!-~]{1,128}\z`)

// FuzzNew holds what is accepted as a key to the sentence that says what one is, and
// two keys to be one only when they are spelled the same.
func FuzzNew(f *testing.F) {
	f.Add("3f6c1c0e-7a55-4b5e-9d46-5f4c0c4f4a10", "k")
	f.Add("", "\n")
	f.Add(strings.Repeat("k", idempotency.MaxLength), strings.Repeat("k", idempotency.MaxLength+1))
	f.Add("\x00", "ключ")
	f.Fuzz(func(t *testing.T, a, b string) {
		read := func(text string) *idempotency.Key {
			k, err := idempotency.New(olga, create, []string{text}, &rmv1.CreateFolderRequest{})
			if ok := wellFormed.MatchString(text); ok != (k != nil) || ok != (err == nil) || !ok && apierr.CodeOf(err) != codes.InvalidArgument {
				t.Errorf("%q: %v, %v", text, k, err)
			}
			return k
		}
		if ka, kb := read(a), read(b); ka != nil && kb != nil && (ka.Ref() == kb.Ref()) != (a == b) {
			t.Errorf("%q and %q: one key %t", a, b, ka.Ref() == kb.Ref())
		}
	})
}
