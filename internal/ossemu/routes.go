package ossemu

import "net/http"

// route is an operation: its name in rules, counters and logs, and what carries
// it out.
type route struct {
	op    string
	serve func(*Server, http.ResponseWriter, *request) error
}

// Routes by method and subresource; "" is none. Where a request has several
// subresources, the first in the order of subresources decides.
var (
	serviceRoutes = map[string]route{
		"GET ":        {"list_buckets", (*Server).listBuckets},
		"GET tagging": {"list_buckets", (*Server).listBuckets},
	}
	bucketRoutes = map[string]route{
		"GET ":                        {"list", (*Server).listObjects},
		"HEAD ":                       {"list", (*Server).listObjects},
		"PUT ":                        {"create_bucket", (*Server).putBucket},
		"DELETE ":                     {"delete_bucket", (*Server).deleteBucket},
		"POST delete":                 {"delete_multiple", (*Server).deleteMultiple},
		"GET bucketInfo":              {"bucket_info", (*Server).bucketInfo},
		"GET location":                {"location", (*Server).bucketInfo},
		"GET stat":                    {"bucket_stat", (*Server).bucketStat},
		"GET acl":                     {"get_bucket_acl", (*Server).bucketInfo},
		"PUT acl":                     {"put_bucket_acl", (*Server).putBucketACL},
		"GET versioning":              {"get_versioning", (*Server).getVersioning},
		"PUT versioning":              {"put_versioning", (*Server).putVersioning},
		"GET versions":                {"list_versions", (*Server).listObjectVersions},
		"GET live":                    {"list_live", (*Server).listLive},
		"GET uploads":                 {"list_uploads", (*Server).listUploads},
		"GET worm":                    {"get_worm", (*Server).getWorm},
		"POST worm":                   {"initiate_worm", (*Server).initiateWorm},
		"DELETE worm":                 {"abort_worm", (*Server).abortWorm},
		"POST wormId":                 {"change_worm", (*Server).changeWorm},
		"GET encryption":              {"get_encryption", (*Server).getEncryption},
		"PUT encryption":              {"put_encryption", (*Server).putEncryption},
		"DELETE encryption":           {"delete_encryption", (*Server).deleteEncryption},
		"GET lifecycle":               {"get_lifecycle", (*Server).getLifecycle},
		"PUT lifecycle":               {"put_lifecycle", (*Server).putLifecycle},
		"DELETE lifecycle":            {"delete_lifecycle", (*Server).deleteLifecycle},
		"GET tagging":                 {"get_bucket_tagging", (*Server).getBucketTags},
		"PUT tagging":                 {"put_bucket_tagging", (*Server).putBucketTags},
		"DELETE tagging":              {"delete_bucket_tagging", (*Server).deleteBucketTags},
		"GET bucketArchiveDirectRead": {"get_direct_read", (*Server).getDirectRead},
		"PUT bucketArchiveDirectRead": {"put_direct_read", (*Server).putDirectRead},
	}
	objectRoutes = map[string]route{
		"GET ":                     {"get", (*Server).getObject},
		"HEAD ":                    {"head", (*Server).getObject},
		"PUT ":                     {"put", (*Server).putObject},
		"DELETE ":                  {"delete", (*Server).deleteObject},
		"POST append":              {"append", (*Server).appendObject},
		"POST seal":                {"seal", (*Server).sealObject},
		"HEAD objectMeta":          {"object_meta", (*Server).objectMeta},
		"GET objectMeta":           {"object_meta", (*Server).objectMeta},
		"GET acl":                  {"get_acl", (*Server).getACL},
		"PUT acl":                  {"put_acl", (*Server).putACL},
		"GET tagging":              {"get_tagging", (*Server).getTagging},
		"PUT tagging":              {"put_tagging", (*Server).putTagging},
		"DELETE tagging":           {"delete_tagging", (*Server).deleteTagging},
		"POST restore":             {"restore", (*Server).restoreObject},
		"POST cleanRestoredObject": {"clean_restored", (*Server).cleanRestored},
		"POST uploads":             {"initiate_multipart", (*Server).initiateMultipart},
		"PUT uploadId":             {"upload_part", (*Server).uploadPart},
		"GET uploadId":             {"list_parts", (*Server).listParts},
		"POST uploadId":            {"complete_multipart", (*Server).completeMultipart},
		"DELETE uploadId":          {"abort_multipart", (*Server).abortMultipart},
	}
)

// isOp reports whether requests have this operation, or all have ("").
func isOp(op string) bool {
	if op == "" {
		return true
	}
	for _, routes := range []map[string]route{serviceRoutes, bucketRoutes, objectRoutes} {
		for _, r := range routes {
			if r.op == op {
				return true
			}
		}
	}
	return false
}

// subresources are query parameters that turn an operation into another one. For
// those that no route has, the answer is that it is not implemented.
var subresources = []string{
	"append", "seal", "objectMeta", "delete", "bucketInfo", "location", "versioning", "versions", "stat",
	"acl", "uploads", "uploadId", "tagging", "restore", "cleanRestoredObject", "lifecycle", "encryption", "worm", "wormId", "bucketArchiveDirectRead",
	"symlink", "cors", "logging", "website", "referer", "policy", "policyStatus", "publicAccessBlock", "inventory", "replication",
	"transferAcceleration", "x-oss-process", "callback", "qos", "qosInfo", "requestPayment", "live", "comp", "vod", "metaQuery", "cname",
	"accessmonitor", "accessPoint", "accessPointPolicy", "style", "styleName", "img", "resourceGroup", "httpsConfig", "objectWorm",
	"retention", "legalHold", "regions", "redundancyTransition", "sequential", "asyncFetch", "overwriteConfig", "quota",
}

func (r *request) routes() map[string]route {
	switch {
	case r.bucket == "":
		return serviceRoutes
	case r.key == "":
		return bucketRoutes
	}
	return objectRoutes
}

// route finds the operation, and notes the subresource that made it.
func (r *request) route() route {
	for _, name := range subresources {
		if r.has(name) {
			r.sub = name
			break
		}
	}
	return r.routes()[r.Method+" "+r.sub]
}
