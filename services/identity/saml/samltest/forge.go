package samltest

import (
	"maps"
	"slices"

	"github.com/beevik/etree"
)

// Forgeries are ways to have an answer say something else than what was signed, by name:
// the known ones of wrapping (Somorovsky and others, On Breaking SAML, 2012) and some
// more. Each changes an answer whose assertion is signed; those that need it say that
// the answer is, too. name is whom the answer is to speak of.
var forgeries = map[string]func(root *etree.Element, name string){
	"another name": func(root *etree.Element, name string) { rename(root.SelectElement("Assertion"), name) },
	"XSW1, the answer within the signature of another": func(root *etree.Element, name string) {
		signed := root.Copy()
		root.CreateAttr("ID", "evil-answer")
		rename(root.SelectElement("Assertion"), name)
		if s := root.SelectElement("Signature"); s != nil {
			s.AddChild(signed)
		}
	},
	"XSW2, the answer beside its signature": func(root *etree.Element, name string) {
		signed := Unsign(root.Copy())
		root.CreateAttr("ID", "evil-answer")
		rename(root.SelectElement("Assertion"), name)
		root.InsertChildAt(0, signed)
	},
	"XSW3, another assertion before": func(root *etree.Element, name string) {
		root.InsertChildAt(root.SelectElement("Assertion").Index(), evil(root, name))
	},
	"XSW3, another assertion after": func(root *etree.Element, name string) { root.AddChild(evil(root, name)) },
	"XSW4, the assertion within another": func(root *etree.Element, name string) {
		e, signed := evil(root, name), root.SelectElement("Assertion")
		root.RemoveChild(signed)
		e.AddChild(signed)
		root.AddChild(e)
	},
	"XSW5, the assertion behind another with its signature": func(root *etree.Element, name string) {
		e := root.SelectElement("Assertion")
		signed := Unsign(e.Copy())
		e.CreateAttr("ID", "evil")
		rename(e, name)
		root.AddChild(signed)
	},
	"XSW6, the assertion within its signature in another": func(root *etree.Element, name string) {
		e := root.SelectElement("Assertion")
		signed := Unsign(e.Copy())
		e.CreateAttr("ID", "evil")
		rename(e, name)
		e.SelectElement("Signature").AddChild(signed)
	},
	"XSW7, another assertion among extensions": func(root *etree.Element, name string) {
		extensions := etree.NewElement("samlp:Extensions")
		extensions.AddChild(evil(root, name))
		root.InsertChildAt(root.SelectElement("Assertion").Index(), extensions)
	},
	"XSW8, the assertion in an object of its signature in another": func(root *etree.Element, name string) {
		e := root.SelectElement("Assertion")
		signed := Unsign(e.Copy())
		rename(e, name)
		object := etree.NewElement("ds:Object")
		object.AddChild(signed)
		e.SelectElement("Signature").AddChild(object)
	},
	"another assertion of the same id before": func(root *etree.Element, name string) {
		e := evil(root, name)
		e.CreateAttr("ID", root.SelectElement("Assertion").SelectAttrValue("ID", ""))
		root.InsertChildAt(root.SelectElement("Assertion").Index(), e)
	},
	"the subject of another added": func(root *etree.Element, name string) {
		a := root.SelectElement("Assertion")
		subject := a.SelectElement("Subject").Copy()
		subject.SelectElement("NameID").SetText(name)
		a.InsertChildAt(a.SelectElement("Subject").Index(), subject)
	},
	"a name beside the name": func(root *etree.Element, name string) {
		subject := root.SelectElement("Assertion").SelectElement("Subject")
		n := subject.SelectElement("NameID").Copy()
		n.SetText(name)
		subject.InsertChildAt(0, n)
	},
	"an attribute added": func(root *etree.Element, _ string) {
		s := root.SelectElement("Assertion").SelectElement("AttributeStatement")
		a := s.SelectElement("Attribute").Copy()
		a.CreateAttr("Name", "member")
		s.AddChild(a)
	},
	"the reference empty": func(root *etree.Element, name string) {
		rename(root.SelectElement("Assertion"), name)
		for _, r := range root.FindElements("//Reference") {
			r.CreateAttr("URI", "")
		}
	},
	"the signature without a reference": func(root *etree.Element, name string) {
		rename(root.SelectElement("Assertion"), name)
		for _, r := range root.FindElements("//Reference") {
			r.Parent().RemoveChild(r)
		}
	},
	"an empty signature": func(root *etree.Element, name string) {
		rename(root.SelectElement("Assertion"), name)
		for _, v := range root.FindElements("//SignatureValue") {
			v.SetText("")
		}
	},
	"signed by a shared key": func(root *etree.Element, name string) {
		rename(root.SelectElement("Assertion"), name)
		for _, m := range root.FindElements("//SignatureMethod") {
			m.CreateAttr("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256")
		}
	},
	"without signatures": func(root *etree.Element, _ string) {
		Unsign(root)
		Unsign(root.SelectElement("Assertion"))
	},
}

// Forgeries are their names.
func Forgeries() []string { return slices.Sorted(maps.Keys(forgeries)) }

// Forge changes an answer to speak of somebody else.
func Forge(doc *etree.Document, way, name string) { forgeries[way](doc.Root(), name) }

// evil is an assertion about somebody else that nobody signed.
func evil(root *etree.Element, name string) *etree.Element {
	e := Unsign(root.SelectElement("Assertion").Copy())
	e.CreateAttr("ID", "evil")
	rename(e, name)
	return e
}

func rename(assertion *etree.Element, name string) {
	assertion.SelectElement("Subject").SelectElement("NameID").SetText(name)
}
