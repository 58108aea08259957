package identity

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// keyed is the context of an operator's call with an idempotency key.
func (w *world) keyed(key string) context.Context {
	return metadata.AppendToOutgoingContext(w.t.Context(), idempotency.Header, key)
}

// create makes a user with a key.
func (w *world) create(key, login string) (*identityv1.CreateUserResponse, error) {
	return w.operator.CreateUser(w.keyed(key), &identityv1.CreateUserRequest{Login: login, Email: login + "@example.com"})
}

// The token that is shown once is shown again to whoever has the key, and stands
// nowhere in the clear.
func TestIdempotencyKeyOfCreateUser(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const key = "0d9d2b84-6a4c-4c43-9bd4-6c7b2f0a5e21"
		first, err := w.create(key, "vera")
		if err != nil {
			t.Fatal(err)
		}
		w = w.restart()
		again, err := w.create(key, "vera")
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again: %v, %v; want %v", again, err, first)
		}
		if err := w.works(w.token(again).GetIamToken()); err != nil {
			t.Errorf("the token does not work: %v", err)
		}
		_, err = w.create(key, "nick")
		wantCode(t, err, codes.InvalidArgument, idempotency.ReasonReused)
		_, err = w.create("another", "vera")
		wantCode(t, err, codes.AlreadyExists, ReasonLoginTaken)
		if got := w.events()["CreateUser"]; got != 1 {
			t.Errorf("%d users were made, want 1", got)
		}
		var answer []byte
		if err := w.db.QueryRowContext(t.Context(), `SELECT answer FROM identity_idempotency`).Scan(&answer); err != nil {
			t.Fatal(err)
		}
		if len(answer) == 0 || bytes.Contains(answer, []byte(first.GetOauthToken())) || bytes.Contains(answer, []byte("vera")) {
			t.Errorf("the kept answer %q shows what it holds", answer)
		}
		w.advance(idempotency.Kept + time.Minute)
		_, err = w.create(key, "vera")
		wantCode(t, err, codes.AlreadyExists, ReasonLoginTaken)
	})
}

// A user that was withdrawn is made by the retry with the same key.
func TestIdempotencyKeyOfAWithdrawnUser(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.access.away.Store(true)
		_, err := w.create("k", "vera")
		wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable)
		w.access.away.Store(false)
		first, err := w.create("k", "vera")
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.create("k", "vera")
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again: %v, %v; want %v", again, err, first)
		}
	})
}

// A user whose first call died before the checker knew of it is completed by the
// retry, which is given the token that nobody saw.
func TestIdempotencyKeyCompletesAUser(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		first, err := w.create("k", "vera")
		if err != nil {
			t.Fatal(err)
		}
		w.access.mu.Lock()
		clear(w.access.subjects)
		w.access.mu.Unlock()
		if _, err := w.db.Pool().ExecContext(t.Context(), `UPDATE identity_users SET state = $1`, string(Creating)); err != nil {
			t.Fatal(err)
		}
		w.access.away.Store(true)
		_, err = w.create("k", "vera")
		wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable)
		w.access.away.Store(false)
		again, err := w.create("k", "vera")
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again: %v, %v; want %v", again, err, first)
		}
		if err := w.works(w.token(again).GetIamToken()); err != nil {
			t.Errorf("the user was not completed: %v", err)
		}
		if _, err := w.db.Pool().ExecContext(t.Context(), `DELETE FROM identity_users`); err != nil {
			t.Fatal(err)
		}
		_, err = w.create("k", "vera")
		wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable)
	})
}

func TestIdempotencyKeyOfUsersConcurrently(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		const keys, calls = 10, 10
		answers := make([][]*identityv1.CreateUserResponse, keys)
		for i := range answers {
			answers[i] = make([]*identityv1.CreateUserResponse, calls)
		}
		var all sync.WaitGroup
		for i := range keys * calls {
			all.Go(func() {
				u, err := w.create(fmt.Sprint("k", i%keys), fmt.Sprintf("user%d", i%keys))
				if err != nil {
					t.Error(err)
				}
				answers[i%keys][i/keys] = u
			})
		}
		all.Wait()
		for _, of := range answers {
			for _, u := range of[1:] {
				if !proto.Equal(of[0], u) {
					t.Errorf("answers %v and %v of one key", of[0], u)
				}
			}
		}
		if got := w.events()["CreateUser"]; got != keys {
			t.Errorf("%d users were made, want %d", got, keys)
		}
	})
}

func TestIdempotencyKeyOfARotation(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		rotate := func(key string) string {
			t.Helper()
			resp, err := w.operator.RotateSigningKey(w.keyed(key), &identityv1.RotateSigningKeyRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetKeyId()
		}
		first := rotate("k")
		if again := rotate("k"); again != first {
			t.Errorf("the replay rotated to %s, the first call to %s", again, first)
		}
		if other := rotate("other"); other == first {
			t.Error("another key did not rotate")
		}
	})
}
