package main

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// sampled is how many of the bad values in fields that hold no secret are sent, spread
// over all of them: what they could show is the credential that comes along.
const sampled = 2

// use sends one RPC a good request, bad secrets in each field that holds one, some other
// bad values, and bytes that are no message, through both doors.
func (r *canaryRun) use(w *accessWorld, one rpc) (calls int) {
	r.t.Helper()
	c := w.badCaller(one)
	send := func(m proto.Message) {
		raw, err := encode(m)
		r.must(err)
		r.refused(c.send(raw))
		calls++
	}
	good := one.request(c.target)
	raw, err := proto.Marshal(good)
	r.must(err)
	if st := c.send(raw); st.Code() != one.inside {
		r.t.Errorf("%s: the good request got %s", one.name(), describe(st))
	}
	all := mutations(one.request(c.target))
	for i := range min(sampled, len(all)) {
		send(all[i*len(all)/min(sampled, len(all))].of(one.request(c.target)))
	}
	for _, m := range r.badSecrets(good) {
		send(m.of(one.request(c.target)))
	}
	for _, bytes := range noMessages {
		r.refused(c.send([]byte(bytes)))
		calls++
	}
	if routed := routeOf(r.t, one.method); routed != nil && !one.operator && len(one.units) == 0 {
		calls += r.useREST(c, routed)
	}
	return calls
}

// refused keeps an error that no interceptor of single calls sees: of a stream.
func (r *canaryRun) refused(st *status.Status) {
	if st.Code() != 0 {
		r.shown.add("errors", []byte(protojson.Format(st.Proto())))
	}
}

// badSecrets are bad values for each field that holds a secret: each is another canary,
// in a form that is refused at another place.
func (r *canaryRun) badSecrets(good proto.Message) (all []mutation) {
	var walk func(m protoreflect.MessageDescriptor, at place, path string)
	walk = func(m protoreflect.MessageDescriptor, at place, path string) {
		for i := range m.Fields().Len() {
			fd := m.Fields().Get(i)
			options, _ := fd.Options().(*descriptorpb.FieldOptions)
			name := join(path, string(fd.Name()))
			switch {
			case options.GetDebugRedact() && fd.Kind() == protoreflect.StringKind && !fd.IsList():
				for what, value := range r.badForms(string(fd.Name())) {
					all = append(all, mutation{field: name, what: what, change: func(root protoreflect.Message) { at(root).Set(fd, protoreflect.ValueOfString(value)) }})
				}
			case fd.Message() != nil && !fd.IsList() && !fd.IsMap() && !strings.HasPrefix(string(fd.Message().FullName()), "google.") && strings.Count(name, ".") < 3:
				walk(fd.Message(), func(root protoreflect.Message) protoreflect.Message { return at(root).Mutable(fd).Message() }, name)
			}
		}
	}
	walk(good.ProtoReflect().Descriptor(), func(root protoreflect.Message) protoreflect.Message { return root }, "")
	return all
}

// badForms are a canary in forms that look like a credential more and more.
func (r *canaryRun) badForms(kind string) map[string]string {
	forms := make(map[string]string)
	for what, form := range map[string]func(s string) string{
		"some text":    func(s string) string { return s },
		"with NUL":     func(s string) string { return s + "\x00" },
		"turned":       func(s string) string { return "\u202e" + s },
		"line ends":    func(s string) string { return s + "\r\n" },
		"not UTF-8":    func(s string) string { return s + notUTF8 },
		"long":         func(s string) string { return strings.Repeat(s, 300) },
		"longer":       func(s string) string { return strings.Repeat(s, 2000) },
		"quoted":       func(s string) string { return `"` + s + `'` },
		"as IAM token": func(s string) string { return "t1.YWJj." + strings.Repeat(s, 3)[:86] },
		"as a JWT": func(s string) string {
			return "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6ImEifQ.eyJpc3MiOiJhIn0." + s
		},
		"as an API key":  func(s string) string { return "AQVN" + strings.ReplaceAll(s+s, "-", "")[:36] },
		"as a header":    func(s string) string { return "Bearer " + s },
		"as a condition": func(s string) string { return s + `' OR '1'='1` },
	} {
		secret := secretText()
		value := form(secret)
		r.add(kind, secret)
		if what == "as an API key" {
			r.add(kind, value)
		}
		forms[what] = value
	}
	return forms
}

// useREST sends an RPC over REST: good, with bad secrets, and with secrets in JSON that
// cannot be read.
func (r *canaryRun) useREST(c *badCaller, routed *route) (calls int) {
	r.t.Helper()
	base := "http://" + r.remote.HTTPAddr
	send := func(m proto.Message, body string) {
		req, ok := routed.request(base, m)
		if !ok {
			return
		}
		if body != "" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}
		req.Header.Set("Authorization", "Bearer "+c.who.token)
		r.rest(c.rpc.method, req)
		calls++
	}
	good := c.rpc.request(c.target)
	r.learn(good)
	send(good, "")
	for i, m := range r.badSecrets(good) {
		if i%6 == 0 { // the other door has had all of them
			send(m.of(c.rpc.request(c.target)), "")
		}
	}
	if routed.body == "" {
		return calls
	}
	for _, field := range secretFields(good) {
		value := r.setting("secret in JSON")
		for _, body := range []string{
			`{"` + field + `": ` + value + `}`, `{"` + field + `": "` + value, `{"` + field + `": ["` + value + `"]}`, `{"` + field + `": {"` + value + `": 1}}`,
			`{"` + field + `": "` + value + `", "` + field + `": "` + value + `"}`, `"` + value + `"`, value,
			`{"` + field + `": "` + value + `\ud800"}`,
		} {
			send(c.rpc.request(c.target), body)
		}
	}
	return calls
}

// secretFields are the JSON names of the fields of a request that hold secrets.
func secretFields(m proto.Message) (names []string) {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if options, _ := fields.Get(i).Options().(*descriptorpb.FieldOptions); options.GetDebugRedact() {
			names = append(names, fields.Get(i).JSONName())
		}
	}
	return names
}

// rest sends a request over HTTP and keeps the answer, as an interceptor does.
func (r *canaryRun) rest(method string, req *http.Request) {
	r.t.Helper()
	key := r.setting("idempotency key")
	req.Header.Set("Idempotency-Key", key)
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	r.must(err)
	defer func() { _ = resp.Body.Close() }() // read whole
	body, err := io.ReadAll(resp.Body)
	r.must(err)
	var head bytes.Buffer
	r.must(resp.Header.Write(&head))
	r.shown.add("metadata", head.Bytes())
	_, out := messagesOf(method)
	if resp.StatusCode != http.StatusOK || out == nil {
		r.shown.add("errors", body)
		return
	}
	m := dynamicpb.NewMessage(out)
	if protojson.Unmarshal(body, m) != nil { // a stream, which has no secrets
		r.shown.add("answers", body)
		return
	}
	r.shown.add("answers", []byte(protojson.Format(r.learn(m))))
}

// strayCredentials sends credentials where they do not belong: in the header of
// another one, in a query, in a path, as an id.
func (r *canaryRun) strayCredentials(w *accessWorld) {
	r.t.Helper()
	p := w.person()
	session, key := w.session(p), w.apiKey()
	forged := strings.Split(p.token, ".")
	slices.Reverse(forged)
	for _, value := range []string{
		p.oauth, "Bearer " + p.oauth, "Bearer " + key, "Api-Key " + key, "OAuth " + p.oauth, "Bearer " + session.GetRefreshToken(), "Bearer " + strings.Join(forged, "."),
		"Basic " + key, "Bearer  " + p.token, "Bearer " + p.token + "." + p.token, p.token,
	} {
		_, err := iamv1.NewRoleServiceClient(w.Conn).Get(metadata.AppendToOutgoingContext(r.t.Context(), "authorization", value), &iamv1.GetRoleRequest{RoleId: "viewer"})
		r.refused(status.Convert(err))
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.remote.HTTPAddr+"/iam/v1/roles/viewer", nil)
		r.must(err)
		req.Header.Set("Authorization", value)
		r.rest("", req)
	}
	for _, path := range []string{
		"/iam/v1/roles?access_token=" + p.token, "/iam/v1/roles?iamToken=" + p.token, "/iam/v1/roles?page_token=" + key, "/iam/v1/roles/viewer?" + p.oauth + "=1",
	} {
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.remote.HTTPAddr+path, nil)
		r.must(err)
		req.Header.Set("Authorization", "Bearer "+p.token)
		r.rest("", req)
	}
	// A session that was refreshed twice by one token is over; the token stays a secret.
	for range 2 {
		_, err := identityv1.NewSessionServiceClient(w.Conn).RefreshSession(r.t.Context(), &identityv1.RefreshSessionRequest{RefreshToken: session.GetRefreshToken()})
		r.refused(status.Convert(err))
	}
}
