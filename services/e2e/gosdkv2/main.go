// Command gosdkv2 makes calls with the second generation of the official Go SDK,
// unmodified, as its users would: it reads one call per line of JSON from its
// input and writes one answer per line (protocol.go). The tests of the folder
// above drive it through their scenario.
//
// Over TLS the SDK trusts the roots of the system alone; SSL_CERT_FILE names
// another CA.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	ycsdk "github.com/yandex-cloud/go-sdk/v2"
	"github.com/yandex-cloud/go-sdk/v2/credentials"
	"github.com/yandex-cloud/go-sdk/v2/pkg/endpoints"
	"github.com/yandex-cloud/go-sdk/v2/pkg/iamkey"
	"github.com/yandex-cloud/go-sdk/v2/pkg/options"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gosdkv2:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	endpoint := flag.String("endpoint", "", "HOST:PORT of the API")
	plaintext := flag.Bool("plaintext", false, "speak without TLS")
	flag.Parse()
	where := options.WithDiscoveryEndpoint(*endpoint)
	if *plaintext { // discovery speaks TLS always, so the endpoints are named here
		where = options.WithEndpointsResolver(endpoints.NewPrefixEndpointsResolver(endpoints.PrefixToEndpoint{
			"yandex.cloud": endpoints.NewEndpointParams(*endpoint, endpoints.Plaintext()),
		}))
	}
	c := &clients{where: where, sdks: map[session]*ycsdk.SDK{}}
	return serve(ctx, os.Stdin, os.Stdout, c.find)
}

// clients holds one SDK per session, as one program of each user would.
type clients struct {
	where options.Option
	sdks  map[session]*ycsdk.SDK
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

// credentialsOf are what the SDK makes of a session.
func credentialsOf(s session) (credentials.Credentials, error) {
	switch {
	case s.IAMToken != "":
		return credentials.IAMToken(s.IAMToken), nil
	case s.AccountKey.ID != "":
		file, err := json.Marshal(s.AccountKey)
		if err != nil {
			return nil, err
		}
		key, err := iamkey.ReadFromJSONBytes(file)
		if err != nil {
			return nil, err
		}
		return credentials.ServiceAccountKey(key)
	default:
		return credentials.OAuthToken(s.OAuthToken), nil
	}
}

func (c *clients) sdk(ctx context.Context, s session) (*ycsdk.SDK, error) {
	if sdk, ok := c.sdks[s]; ok {
		return sdk, nil
	}
	creds, err := credentialsOf(s)
	if err != nil {
		return nil, err
	}
	sdk, err := ycsdk.Build(ctx, c.where, options.WithCredentials(creds))
	if err != nil {
		return nil, err
	}
	c.sdks[s] = sdk
	return sdk, nil
}
