package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

const (
	federationService  = "yandex.cloud.organizationmanager.v1.saml.FederationService/"
	certificateService = "yandex.cloud.organizationmanager.v1.saml.CertificateService/"
)

// createFederation asks for a federation.
func createFederation(organizationID, name string) *samlv1.CreateFederationRequest {
	return &samlv1.CreateFederationRequest{
		OrganizationId: organizationID, Name: name, Issuer: "https://idp.example", SsoUrl: "https://idp.example/sso", SsoBinding: samlv1.BindingType_POST,
	}
}

// federatedUser makes a user of a federation.
func federatedUser(n *node) {
	op, err := samlv1.NewFederationServiceClient(n.w.Conn).AddUserAccounts(n.w.as(n.owner), addAccounts(n))
	n.w.must(err)
	resp := new(samlv1.AddFederatedUserAccountsResponse)
	n.w.must(op.GetResponse().UnmarshalTo(resp))
	n.key, n.operation = resp.GetUserAccounts()[0].GetId(), op.GetId()
}

func addAccounts(n *node) *samlv1.AddFederatedUserAccountsRequest {
	return &samlv1.AddFederatedUserAccountsRequest{FederationId: n.id, NameIds: []string{n.w.unique()}}
}

const federationDomain = "corp.example"

func addDomain(n *node) {
	_, err := samlv1.NewFederationServiceClient(n.w.Conn).AddDomain(n.w.as(n.owner), &samlv1.AddFederationDomainRequest{FederationId: n.id, Domain: federationDomain})
	n.w.must(err)
}

// providersCertificate is one that an identity provider could sign by.
var providersCertificate = sync.OnceValue(func() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
})

// addCertificate adds a certificate to a federation.
func addCertificate(n *node) {
	op, err := samlv1.NewCertificateServiceClient(n.w.Conn).Create(n.w.as(n.owner), &samlv1.CreateCertificateRequest{FederationId: n.id, Data: providersCertificate()})
	n.w.must(err)
	n.key, n.operation = n.w.made(op, new(samlv1.Certificate)), op.GetId()
}

var federationRPCs = []rpc{
	{
		method: federationService + "Get", on: federation, guard: needs("organization-manager.federations.get"),
		request: func(n *node) proto.Message { return &samlv1.GetFederationRequest{FederationId: n.id} },
	},
	{
		method: federationService + "List", on: organization, child: federation, prepare: func(n *node) { n.w.child(n, federation) },
		guard:   guard{permission: "organization-manager.federations.list", items: "organization-manager.federations.get"},
		request: func(n *node) proto.Message { return &samlv1.ListFederationsRequest{OrganizationId: n.id} },
	},
	{
		method: federationService + "Create", on: organization, guard: needs("organization-manager.federations.create"),
		request: func(n *node) proto.Message { return createFederation(n.id, "new") },
	},
	{
		method: federationService + "Update", on: federation, guard: needs("organization-manager.federations.update"),
		request: func(n *node) proto.Message {
			return &samlv1.UpdateFederationRequest{FederationId: n.id, Description: "new"}
		},
	},
	{
		method: federationService + "Delete", on: federation, guard: needs("organization-manager.federations.delete"),
		request: func(n *node) proto.Message { return &samlv1.DeleteFederationRequest{FederationId: n.id} },
	},
	{
		method: federationService + "ListOperations", on: federation, guard: needs("organization-manager.federations.get"),
		request: func(n *node) proto.Message { return &samlv1.ListFederationOperationsRequest{FederationId: n.id} },
	},
	{
		method: federationService + "AddUserAccounts", on: federation, guard: needs("organization-manager.federatedUsers.create"),
		request: func(n *node) proto.Message { return addAccounts(n) },
	},
	{
		method: federationService + "DeleteUserAccounts", on: federation, prepare: federatedUser, guard: needs("organization-manager.federatedUsers.delete"),
		request: func(n *node) proto.Message {
			return &samlv1.DeleteFederatedUserAccountsRequest{FederationId: n.id, SubjectIds: []string{n.key}}
		},
	},
	{
		method: federationService + "SuspendUserAccounts", on: federation, prepare: federatedUser, guard: needs("organization-manager.federatedUsers.update"),
		request: func(n *node) proto.Message {
			return &samlv1.SuspendFederatedUserAccountsRequest{FederationId: n.id, SubjectIds: []string{n.key}, Reason: "leave"}
		},
	},
	{
		method: federationService + "ReactivateUserAccounts", on: federation, prepare: federatedUser, guard: needs("organization-manager.federatedUsers.update"),
		request: func(n *node) proto.Message {
			return &samlv1.ReactivateFederatedUserAccountsRequest{FederationId: n.id, SubjectIds: []string{n.key}}
		},
	},
	{
		method: federationService + "ListUserAccounts", on: organization, guard: needs("organization-manager.users.list"),
		prepare: func(n *node) { n.other = n.w.child(n, federation) },
		request: func(n *node) proto.Message { return &samlv1.ListFederatedUserAccountsRequest{FederationId: n.other.id} },
	},
	{
		method: federationService + "AddDomain", on: federation, guard: needs("organization-manager.federations.update"),
		request: func(n *node) proto.Message {
			return &samlv1.AddFederationDomainRequest{FederationId: n.id, Domain: federationDomain}
		},
	},
	{
		method: federationService + "GetDomain", on: federation, prepare: addDomain, guard: needs("organization-manager.federations.get"),
		request: func(n *node) proto.Message {
			return &samlv1.GetFederationDomainRequest{FederationId: n.id, Domain: federationDomain}
		},
	},
	{
		method: federationService + "ListDomains", on: federation, prepare: addDomain, guard: needs("organization-manager.federations.get"),
		request: func(n *node) proto.Message { return &samlv1.ListFederationDomainsRequest{FederationId: n.id} },
	},
	{
		method: federationService + "ValidateDomain", on: federation, prepare: addDomain, guard: needs("organization-manager.federations.update"),
		request: func(n *node) proto.Message {
			return &samlv1.ValidateFederationDomainRequest{FederationId: n.id, Domain: federationDomain}
		},
	},
	{
		method: federationService + "DeleteDomain", on: federation, prepare: addDomain, guard: needs("organization-manager.federations.update"),
		request: func(n *node) proto.Message {
			return &samlv1.DeleteFederationDomainRequest{FederationId: n.id, Domain: federationDomain}
		},
	},
	{
		method: certificateService + "Get", on: federation, prepare: addCertificate, guard: needs("organization-manager.certificates.get"),
		request: func(n *node) proto.Message { return &samlv1.GetCertificateRequest{CertificateId: n.key} },
	},
	{
		method: certificateService + "List", on: federation, prepare: addCertificate, guard: needs("organization-manager.certificates.get"),
		request: func(n *node) proto.Message { return &samlv1.ListCertificatesRequest{FederationId: n.id} },
	},
	{
		method: certificateService + "Create", on: federation, guard: needs("organization-manager.certificates.create"),
		request: func(n *node) proto.Message {
			return &samlv1.CreateCertificateRequest{FederationId: n.id, Data: providersCertificate()}
		},
	},
	{
		method: certificateService + "Update", on: federation, prepare: addCertificate, guard: needs("organization-manager.certificates.update"),
		request: func(n *node) proto.Message {
			return &samlv1.UpdateCertificateRequest{CertificateId: n.key, Description: "new"}
		},
	},
	{
		method: certificateService + "Delete", on: federation, prepare: addCertificate, guard: needs("organization-manager.certificates.delete"),
		request: func(n *node) proto.Message { return &samlv1.DeleteCertificateRequest{CertificateId: n.key} },
	},
	{
		method: certificateService + "ListOperations", on: federation, prepare: addCertificate, guard: needs("organization-manager.certificates.get"),
		request: func(n *node) proto.Message { return &samlv1.ListCertificateOperationsRequest{CertificateId: n.key} },
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on a federation", on: federation,
		guard: needs("organization-manager.federations.get"), request: operationOf,
	},
}

const mappingService = "yandex.cloud.organizationmanager.v1.GroupMappingService/"

// createMapping makes the mapping of a federation.
func createMapping(n *node) {
	_, err := orgv1.NewGroupMappingServiceClient(n.w.Conn).Create(n.w.as(n.owner), &orgv1.CreateGroupMappingRequest{FederationId: n.id})
	n.w.must(err)
}

// mapGroup maps a group of a federation.
func mapGroup(federation, group *node) *orgv1.UpdateGroupMappingItemsRequest {
	return &orgv1.UpdateGroupMappingItemsRequest{FederationId: federation.id, GroupMappingItemDeltas: []*orgv1.GroupMappingItemDelta{{
		Action: orgv1.GroupMappingItemDelta_ADD, Item: &orgv1.GroupMappingItem{ExternalGroupId: "admins", InternalGroupId: group.id},
	}}}
}

// mappingRPCs: what names groups needs a permission on each of them, too (AS-19). It is
// called twice: with one of the two given to everybody, so that the other one decides.
var mappingRPCs = []rpc{
	{
		method: mappingService + "Get", on: federation, prepare: createMapping, guard: needs("organization-manager.groupMappings.get"),
		request: func(n *node) proto.Message { return &orgv1.GetGroupMappingRequest{FederationId: n.id} },
	},
	{
		method: mappingService + "Create", on: federation, guard: needs("organization-manager.groupMappings.create"),
		request: func(n *node) proto.Message { return &orgv1.CreateGroupMappingRequest{FederationId: n.id} },
	},
	{
		method: mappingService + "Update", on: federation, prepare: createMapping, guard: needs("organization-manager.groupMappings.update"),
		request: func(n *node) proto.Message {
			return &orgv1.UpdateGroupMappingRequest{FederationId: n.id, Enabled: true}
		},
	},
	{
		method: mappingService + "Delete", on: federation, prepare: createMapping, guard: needs("organization-manager.groupMappings.delete"),
		request: func(n *node) proto.Message { return &orgv1.DeleteGroupMappingRequest{FederationId: n.id} },
	},
	{
		method: mappingService + "ListItems", on: federation, prepare: createMapping, guard: needs("organization-manager.groupMappings.get"),
		request: func(n *node) proto.Message { return &orgv1.ListGroupMappingItemsRequest{FederationId: n.id} },
	},
	{
		method: mappingService + "UpdateItems", variant: "of a federation", on: federation, guard: needs("organization-manager.groupMappings.update"),
		prepare: func(n *node) {
			createMapping(n)
			n.other = n.w.child(n.parent, group)
			n.w.open("organization-manager.groups.memberAdmin", n.other)
		},
		request: func(n *node) proto.Message { return mapGroup(n, n.other) },
	},
	{
		method: mappingService + "UpdateItems", variant: "to a group", on: group, guard: needs("organization-manager.groups.updateMembers"),
		prepare: func(n *node) {
			n.other = n.w.child(n.parent, federation)
			createMapping(n.other)
			n.w.open("organization-manager.federations.editor", n.parent)
		},
		request: func(n *node) proto.Message { return mapGroup(n.other, n) },
	},
}
