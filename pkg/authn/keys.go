package authn

import (
	"context"

	"google.golang.org/grpc"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// KeysOver reads the keys from the unit identity over a connection, which needs no
// credentials.
func KeysOver(conn grpc.ClientConnInterface) KeySource {
	return KeySourceFunc(func(ctx context.Context) ([]Key, error) {
		resp, err := identityv1.NewSigningKeyServiceClient(conn).ListSigningKeys(ctx, &identityv1.ListSigningKeysRequest{})
		if err != nil {
			return nil, err
		}
		keys := make([]Key, len(resp.GetKeys()))
		for i, k := range resp.GetKeys() {
			keys[i] = Key{ID: k.GetId(), Public: k.GetPublicKey(), Epoch: resp.GetEpoch()}
		}
		return keys, nil
	})
}
