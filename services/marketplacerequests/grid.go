package marketplacerequests

import (
	"github.com/bindery-iam/bindery/pkg/request"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// grid is MR-6, MR-7, MR-8, MR-9: who does what with a request in which state. The
// decider is who holds the role of the product's publisher side; the platform acts
// through the operator socket.
var grid = request.Grid{
	request.Requester: {
		request.Post:   {request.Pending},
		request.Cancel: {request.Pending},
	},
	request.Decider: {
		request.Post:    {request.Pending},
		request.Approve: {request.Pending},
		request.Reject:  {request.Pending},
		request.Plead:   {request.Approved},
	},
	request.Platform: {
		request.Post:   request.States,
		request.Revoke: {request.Approved},
	},
}

// sides are the sides of a request as people see them.
var sides = map[string]marketplacev1.Message_Side{
	string(request.Requester): marketplacev1.Message_REQUESTER,
	string(request.Decider):   marketplacev1.Message_PUBLISHER,
	string(request.Platform):  marketplacev1.Message_PLATFORM,
}
