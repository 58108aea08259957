package gateway

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
)

// strictJSON is the library's JSON, but a body is one value: what follows it would
// be left out in silence.
type strictJSON struct{ *runtime.JSONPb }

var errMore = errors.New("nothing may follow the JSON value")

// NewDecoder returns a decoder of one value.
func (m strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	values := json.NewDecoder(r)
	one := runtime.DecoderWrapper{Decoder: values, UnmarshalOptions: m.UnmarshalOptions}
	return runtime.DecoderFunc(func(v any) error {
		if err := one.Decode(v); err != nil {
			return err // io.EOF for no body at all
		}
		if _, err := values.Token(); !errors.Is(err, io.EOF) {
			return errMore
		}
		return nil
	})
}
