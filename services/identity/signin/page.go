package signin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
)

// page is what one page shows.
type page struct {
	Title  string
	Text   string
	Links  []link
	Action string // of the form; none when empty
	Fields []field
	Input  string // label of the one text field; none when empty
	Named  string // what that field is called; user_code when empty
	Button string
	Refuse bool // whether there is a button that says no
	Again  bool // whether it leads back to /login

	Forward string // origins to which the form may lead on
}

type link struct{ URL, Text string }

type field struct{ Name, Value string }

const style = `body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:15vh auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.4rem}a,button{font:inherit;display:block;width:100%;box-sizing:border-box;text-align:center;margin:.6rem 0;padding:.6rem;border:1px solid #555;border-radius:.4rem;color:inherit;background:#f4f4f4;text-decoration:none}
input{font:inherit;width:100%;box-sizing:border-box;padding:.6rem}`

// styleHash names the one style that the pages may have.
var styleHash = func() string {
	h := sha256.Sum256([]byte(style))
	return base64.StdEncoding.EncodeToString(h[:])
}()

var layout = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>` + style + `</style>
<h1>{{.Title}}</h1>
{{with .Text}}<p>{{.}}</p>{{end}}
{{range .Links}}<a href="{{.URL}}">{{.Text}}</a>
{{end}}{{if .Action}}<form method="post" action="{{.Action}}">
{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}{{with .Input}}<label>{{.}} <input name="{{or $.Named "user_code"}}" autocomplete="off" autofocus></label>
{{end}}<button>{{.Button}}</button>
{{if .Refuse}}<button name="answer" value="no">Refuse</button>
{{end}}</form>
{{end}}{{if .Again}}<a href="/login">Sign in</a>
{{end}}</html>
`))

// show answers with a page.
func (s *service) show(w http.ResponseWriter, status int, p page) {
	var text bytes.Buffer
	if err := layout.Execute(&text, p); err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy(p.Forward))
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // the reader is gone if it fails
}

// answerJSON answers a program.
func answerJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller is gone if it fails
}
