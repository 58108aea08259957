package jwttest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// missing are tokens without one of the claims.
func missing(h Holder) []Case {
	var all []Case
	for _, name := range []string{"iss", "aud", "iat", "exp"} {
		all = append(all,
			Case{"no " + name, h.with(map[string]any{name: nil})},
			Case{name + " null", h.with(map[string]any{name: json.RawMessage("null")})},
			Case{name + " empty", h.with(map[string]any{name: ""})},
			Case{name + " in capitals", h.with(map[string]any{name: nil, strings.ToUpper(name): "x"})},
		)
	}
	return append(all,
		Case{"no claims", h.sign(h.Header(), `{}`)},
		Case{"claims null", h.sign(h.Header(), `null`)},
		Case{"claims an array", h.sign(h.Header(), "["+h.claims(nil)+"]")},
		Case{"claims a text", h.sign(h.Header(), `"iss"`)},
		Case{"claims within claims", h.sign(h.Header(), `{"claims":`+h.claims(nil)+`}`)},
		Case{"claims twice", h.sign(h.Header(), h.claims(nil)+h.claims(nil))},
		Case{"claims cut", h.sign(h.Header(), strings.TrimSuffix(h.claims(nil), "}"))},
		Case{"claims without quotes", h.sign(h.Header(), strings.ReplaceAll(h.claims(nil), `"`, ""))},
		Case{"claims as a form", h.sign(h.Header(), "iss="+h.Account)},
		Case{"claims with a zero byte after them", h.sign(h.Header(), h.claims(nil)+"\x00")},
		Case{"a token within the token", h.sign(h.Header(), h.Token())},
		Case{"a token as a claim", h.sign(h.Header(), fmt.Sprintf(`{"jwt":%q}`, h.Token()))},
	)
}

// types are tokens with a claim of another type.
func types(h Holder) []Case {
	var all []Case
	add := func(claim string, values ...string) {
		for _, v := range values {
			all = append(all, Case{claim + " " + v, h.with(map[string]any{claim: json.RawMessage(v)})})
		}
	}
	at := fmt.Sprint(h.Now.Unix())
	quoted := fmt.Sprintf("%q", h.Account)
	add("iss", "1", "true", "{}", "[]", "["+quoted+"]", `{"id":`+quoted+`}`)
	add("iat", `"`+at+`"`, "true", "{}", "["+at+"]", "-1", "-"+at, "1e9", at+"e0", at+"000", "99999999999999999999")
	add("exp", `"`+fmt.Sprint(h.Now.Unix()+60)+`"`, "true", "{}", "["+at+"]", "-1", "1e10", "1e400", "9223372036854775807", "9223372036854775808", "18446744073709551616")
	add("nbf", `"`+at+`"`, "true", "{}", "null", "-1")
	add("sub", `"`+h.Account+` "`, "1", "{}", "null", `"somebody"`)
	return all
}

// times are tokens that are not good now.
func times(h Holder) []Case {
	at := h.Now.Unix()
	span := func(name string, from, to int64) Case {
		return Case{name, h.with(map[string]any{"iat": at + from, "exp": at + to})}
	}
	hour, week := int64(time.Hour/time.Second), int64(7*24*time.Hour/time.Second)
	return []Case{
		span("exp before iat", 10, -10), span("exp at iat", 0, 0), span("expired", -hour, -61), span("expired for long", -week, -week+hour),
		span("iat an hour ahead", hour, 2*hour), span("iat ahead by more than the leeway", 61, 120), span("two weeks long", 0, 2*week),
		span("a second too long", 0, hour+1), span("long, begun long ago", -week, 60), span("milliseconds", at*999, at*999+hour),
		span("of the year 1970", -at+1, -at+hour),
		{"nbf ahead", h.with(map[string]any{"nbf": at + 61})},
		{"endless", h.with(map[string]any{"exp": 253402300799})},
	}
}

// audiences are tokens for somebody else.
func audiences(h Holder) []Case {
	a := h.Audience
	var all []Case
	for _, aud := range []any{
		"https://other.example", a + "/", a + " ", " " + a, a + "\x00", strings.ToUpper(a), strings.Replace(a, "https", "http", 1),
		a + "?x", a + "#x", strings.TrimSuffix(a, "s"), "*", "https://", "https://evil.example/?" + a, []string{}, []string{""}, []string{a + "x"},
		[]any{a, 1}, []any{a, nil}, []any{[]string{a}}, []any{a, ""}, map[string]any{"aud": a}, map[string]any{"0": a}, 1, true, 1.5,
	} {
		raw, err := json.Marshal(aud)
		if err != nil {
			h.T.Fatal(err)
		}
		all = append(all, Case{fmt.Sprintf("aud %.80s", raw), h.with(map[string]any{"aud": aud})})
	}
	many := make([]string, 17)
	for i := range many {
		many[i] = a
	}
	return append(all, Case{"aud 17 times", h.with(map[string]any{"aud": many})})
}

// repeated are tokens in which a name stands twice.
func repeated(h Holder) []Case {
	var all []Case
	for _, name := range []string{"iss", "aud", "iat", "exp", "nbf", "sub", "other"} {
		value := map[string]string{
			"iss": fmt.Sprintf("%q", h.Account), "aud": fmt.Sprintf("%q", h.Audience), "sub": fmt.Sprintf("%q", h.Account), "other": "1",
		}[name]
		if value == "" {
			value = fmt.Sprint(h.Now.Unix() + 30)
		}
		claims := h.claims(map[string]any{name: json.RawMessage(value)})
		all = append(all,
			Case{name + " twice, the same", h.sign(h.Header(), fmt.Sprintf(`{%q:%s,%s`, name, value, claims[1:]))},
			Case{name + " twice, another first", h.sign(h.Header(), fmt.Sprintf(`{%q:"x",%s`, name, claims[1:]))},
			Case{name + " twice, another last", h.sign(h.Header(), fmt.Sprintf(`%s,%q:"x"}`, claims[:len(claims)-1], name))},
			Case{name + " twice, once escaped", h.sign(h.Header(), fmt.Sprintf(`{"\u%04x%s":"x",%s`, name[0], name[1:], claims[1:]))},
		)
	}
	return append(all,
		Case{"alg twice", h.headed(`{"alg":"none","alg":"PS256","kid":%q}`, h.KeyID)},
		Case{"alg twice, none last", h.headed(`{"alg":"PS256","kid":%q,"alg":"none"}`, h.KeyID)},
		Case{"kid twice", h.headed(`{"kid":"other","alg":"PS256","kid":%q}`, h.KeyID)},
		Case{"typ twice", h.headed(`{"typ":"JWT","alg":"PS256","kid":%q,"typ":"JWT"}`, h.KeyID)},
	)
}
