package oslogin

import (
	"crypto/rsa"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/text"
)

// Sizes of RSA keys in bits: NIST SP 800-131A asks for the least, the most is what OpenSSH
// takes.
const (
	minRSABits = 2048
	maxRSABits = 16384
)

// maxKeyName is how many bytes of a comment become the name of a key.
const maxKeyName = 255

// algorithms are the types of keys that are taken: those that OpenSSH makes today. DSA is
// not among them, nor are certificates, which are no keys of their own.
var algorithms = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoSKED25519: true,
	ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true, ssh.KeyAlgoSKECDSA256: true,
	ssh.KeyAlgoRSA: true,
}

// publicKey is a key that was read from a request.
type publicKey struct {
	key         ssh.PublicKey
	fingerprint string // as OpenSSH prints it
	name        string // the comment, where it can be a name
}

// parseKey reads the one key of a line of an authorized_keys file, without options:
// those would be commands for the machines.
func parseKey(field, line string) (publicKey, error) {
	line = strings.TrimSpace(line)
	if strings.ContainsAny(line, "\r\n") {
		return publicKey{}, apierr.InvalidField(field, "must be one line")
	}
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return publicKey{}, apierr.InvalidField(field, "must be a public key of OpenSSH: its type, the key in base64, and a comment if you like")
	case len(options) > 0 || len(rest) > 0:
		return publicKey{}, apierr.InvalidField(field, "must have no options before the key")
	case !algorithms[key.Type()]:
		return publicKey{}, apierr.InvalidField(field, "keys of type %s are not taken: use Ed25519, ECDSA or RSA", key.Type())
	}
	if wrapped, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := wrapped.CryptoPublicKey().(*rsa.PublicKey); ok && (k.N.BitLen() < minRSABits || k.N.BitLen() > maxRSABits) {
			return publicKey{}, apierr.InvalidField(field, "an RSA key must have %d to %d bits, and this one has %d", minRSABits, maxRSABits, k.N.BitLen())
		}
	}
	p := publicKey{key: key, fingerprint: ssh.FingerprintSHA256(key)}
	if len(comment) <= maxKeyName && text.Problem(comment) == "" {
		p.name = comment
	}
	return p, nil
}
