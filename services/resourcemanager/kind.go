package resourcemanager

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/notice"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// kind is one level of the tree (RH-1) and what differs between the levels: the
// rest of their life is the same code.
type kind struct {
	name     string // in the table, in texts: "cloud"
	upper    string // in reasons: "CLOUD"
	event    string // in audit events: "Cloud" (AU-1, AU-4)
	source   string // service of the audit events
	typ      string // in the tree: "resource-manager.cloud"
	idPrefix string
	parent   *kind

	get            string // permission that shows it, also in lists
	cancelDeletion string // permission that takes its deletion back
	create         string // permission on the parent; "" for any authenticated subject
	update         string
	delete         string
	ownerRole      string // role its creator gets (CR-2, CR-4, CR-11); "" for none (CR-6)

	// Events of the notices of its deletion (NT-1); "" where nobody is told.
	scheduled, cancelled, deleted string

	message        func(Resource) proto.Message
	createMetadata func(resourceID string) proto.Message
	updateMetadata func(resourceID string) proto.Message
	deleteMetadata func(d deletion) proto.Message
}

// deletion is what the metadata of a deletion says (DL-9).
type deletion struct {
	ResourceID  string
	After       time.Time // zero: at once
	CancelledBy string    // id of the subject
	CancelledAt time.Time
}

// The three levels.
var (
	organization = &kind{
		name: "organization", upper: "ORGANIZATION", event: "Organization", source: "organizationmanager",
		typ: "organization-manager.organization", idPrefix: id.Organization,
		get: "organization-manager.organizations.get", update: "organization-manager.organizations.update",
		delete:    "organization-manager.organizations.delete",
		ownerRole: "organization-manager.organizations.owner",
		message:   func(r Resource) proto.Message { return organizationProto(r) },
		createMetadata: func(resourceID string) proto.Message {
			return &brmv1.CreateOrganizationMetadata{OrganizationId: resourceID}
		},
		updateMetadata: func(resourceID string) proto.Message {
			return &orgv1.UpdateOrganizationMetadata{OrganizationId: resourceID}
		},
		deleteMetadata: func(d deletion) proto.Message {
			return &brmv1.DeleteOrganizationMetadata{OrganizationId: d.ResourceID}
		},
	}
	cloud = &kind{
		name: "cloud", upper: "CLOUD", event: "Cloud", source: "resourcemanager",
		typ: "resource-manager.cloud", idPrefix: id.Cloud, parent: organization,
		get: "resource-manager.clouds.get", cancelDeletion: "resource-manager.clouds.cancelDeletion",
		create: "resource-manager.clouds.create", update: "resource-manager.clouds.update", delete: "resource-manager.clouds.delete",
		ownerRole: "resource-manager.clouds.owner",
		scheduled: notice.CloudDeletionScheduled, cancelled: notice.CloudDeletionCancelled, deleted: notice.CloudDeleted,
		message:        func(r Resource) proto.Message { return cloudProto(r) },
		createMetadata: func(resourceID string) proto.Message { return &rmv1.CreateCloudMetadata{CloudId: resourceID} },
		updateMetadata: func(resourceID string) proto.Message { return &rmv1.UpdateCloudMetadata{CloudId: resourceID} },
		deleteMetadata: func(d deletion) proto.Message {
			return &rmv1.DeleteCloudMetadata{
				CloudId: d.ResourceID, DeleteAfter: timestamp(d.After), CancelledBy: d.CancelledBy, CancelledAt: timestamp(d.CancelledAt),
			}
		},
	}
	folder = &kind{
		name: "folder", upper: "FOLDER", event: "Folder", source: "resourcemanager",
		typ: "resource-manager.folder", idPrefix: id.Folder, parent: cloud,
		get: "resource-manager.folders.get", cancelDeletion: "resource-manager.folders.cancelDeletion",
		create: "resource-manager.folders.create", update: "resource-manager.folders.update", delete: "resource-manager.folders.delete",
		scheduled: notice.FolderDeletionScheduled, cancelled: notice.FolderDeletionCancelled, deleted: notice.FolderDeleted,
		message:        func(r Resource) proto.Message { return folderProto(r) },
		createMetadata: func(resourceID string) proto.Message { return &rmv1.CreateFolderMetadata{FolderId: resourceID} },
		updateMetadata: func(resourceID string) proto.Message { return &rmv1.UpdateFolderMetadata{FolderId: resourceID} },
		deleteMetadata: func(d deletion) proto.Message {
			return &rmv1.DeleteFolderMetadata{
				FolderId: d.ResourceID, DeleteAfter: timestamp(d.After), CancelledBy: d.CancelledBy, CancelledAt: timestamp(d.CancelledAt),
			}
		},
	}
)

// kinds finds a kind by its name.
var kinds = map[string]*kind{organization.name: organization, cloud.name: cloud, folder.name: folder}

// resource names a resource of the kind for the checker.
func (k *kind) resource(resourceID string) authz.Resource {
	return authz.Resource{Type: k.typ, ID: resourceID}
}

// timestamp leaves the zero time out of a message.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
