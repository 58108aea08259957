// Command gosdkv1 makes calls with the first generation of the official Go SDK,
// unmodified, as its users would: it reads one call per line of JSON from its
// input and writes one answer per line (protocol.go). The tests of the folder
// above drive it through their scenario.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	ycsdk "github.com/yandex-cloud/go-sdk"
	"github.com/yandex-cloud/go-sdk/iamkey"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gosdkv1:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	endpoint := flag.String("endpoint", "", "HOST:PORT of the API")
	plaintext := flag.Bool("plaintext", false, "speak without TLS")
	ca := flag.String("ca", "", "file with the CA certificate of the API")
	flag.Parse()
	c := &clients{conf: ycsdk.Config{Endpoint: *endpoint, Plaintext: *plaintext}, sdks: map[session]*ycsdk.SDK{}}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("no certificate in %s", *ca)
		}
		c.conf.TLSConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return serve(ctx, os.Stdin, os.Stdout, c.find)
}

// clients holds one SDK per session, as one program of each user would.
type clients struct {
	conf ycsdk.Config
	sdks map[session]*ycsdk.SDK
}

// find returns the call that a request names, bound to the session's SDK.
func (c *clients) find(ctx context.Context, req request) (call, error) {
	sdk, err := c.sdk(ctx, req.Session)
	if err != nil {
		return nil, err
	}
	do, ok := calls(sdk)[req.Call]
	if !ok {
		return nil, errors.New("no such call")
	}
	return do, nil
}

// credentials are what the SDK makes of a session.
func credentials(s session) (ycsdk.Credentials, error) {
	switch {
	case s.IAMToken != "":
		return ycsdk.NewIAMTokenCredentials(s.IAMToken), nil
	case s.AccountKey.ID != "":
		file, err := json.Marshal(s.AccountKey)
		if err != nil {
			return nil, err
		}
		key, err := iamkey.ReadFromJSONBytes(file)
		if err != nil {
			return nil, err
		}
		return ycsdk.ServiceAccountKey(key)
	default:
		return ycsdk.OAuthToken(s.OAuthToken), nil
	}
}

func (c *clients) sdk(ctx context.Context, s session) (*ycsdk.SDK, error) {
	if sdk, ok := c.sdks[s]; ok {
		return sdk, nil
	}
	conf := c.conf
	creds, err := credentials(s)
	if err != nil {
		return nil, err
	}
	conf.Credentials = creds
	sdk, err := ycsdk.Build(ctx, conf)
	if err != nil {
		return nil, err
	}
	c.sdks[s] = sdk
	return sdk, nil
}
