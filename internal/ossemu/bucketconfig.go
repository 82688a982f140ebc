package ossemu

import (
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (s *Server) getVersioning(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	return writeXML(w, xmlVersioning{Status: b.Versioning})
}

type xmlVersioning struct {
	XMLName xml.Name `xml:"VersioningConfiguration"`
	Status  string   `xml:",omitempty"`
}

func (s *Server) putVersioning(w http.ResponseWriter, r *request) error {
	var req xmlVersioning
	if err := document(r, &req); err != nil {
		return err
	}
	if req.Status != versioningEnabled && req.Status != versioningSuspended {
		return malformedXML()
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error {
		if b.Worm != nil {
			return errorf(409, "InvalidBucketState", "A bucket with a retention policy cannot be versioned.", "0015-00000501")
		}
		b.Versioning = req.Status
		return nil
	})
}

// Retention policies.

// wormTime is how long a policy that is not locked holds.
const wormTime = 24 * time.Hour

func (w *worm) active(now time.Time) bool {
	return w != nil && (w.Locked || now.Before(w.Created.Add(wormTime)))
}

func noWorm() *apiError {
	return errorf(404, "NoSuchWORMConfiguration", "The WORM Configuration does not exist.", "0015-00000601")
}

func wormLocked() *apiError {
	return errorf(409, "WORMConfigurationLocked", "The WORM Configuration is locked.", "0015-00000602")
}

func (s *Server) getWorm(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	if !b.Worm.active(s.opt.Now()) {
		return noWorm()
	}
	status := "InProgress"
	if b.Worm.Locked {
		status = "Locked"
	}
	return writeXML(w, struct {
		XMLName               xml.Name `xml:"WormConfiguration"`
		WormID                string   `xml:"WormId"`
		State                 string
		RetentionPeriodInDays int
		CreationDate          string
	}{WormID: b.Worm.ID, State: status, RetentionPeriodInDays: b.Worm.Days, CreationDate: xmlTimeOf(b.Worm.Created)})
}

type xmlRetention struct{ RetentionPeriodInDays int }

func (s *Server) initiateWorm(w http.ResponseWriter, r *request) error {
	var req xmlRetention
	if err := document(r, &req); err != nil {
		return err
	}
	if req.RetentionPeriodInDays < 1 || req.RetentionPeriodInDays > 70*366 {
		return malformedXML()
	}
	next := &worm{ID: newID(), Days: req.RetentionPeriodInDays, Created: s.opt.Now().UTC()}
	err := s.store.changeBucket(r.bucket, func(b *bucketState) error {
		switch {
		case b.Worm != nil && b.Worm.Locked:
			return wormLocked()
		case b.Versioning != "":
			return errorf(409, "InvalidBucketState", "A versioned bucket cannot have a retention policy.", "0015-00000502")
		}
		b.Worm = next
		return nil
	})
	if err != nil {
		return err
	}
	w.Header().Set("X-Oss-Worm-Id", next.ID)
	return done(w, http.StatusOK)
}

// changeWorm locks the policy, or makes a locked one hold for longer.
func (s *Server) changeWorm(w http.ResponseWriter, r *request) error {
	var req xmlRetention
	extend := r.has("wormExtend")
	if extend {
		if err := document(r, &req); err != nil {
			return err
		}
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error {
		if !b.Worm.active(s.opt.Now()) || b.Worm.ID != r.value("wormId") {
			return noWorm()
		}
		next := *b.Worm
		switch {
		case extend && (!next.Locked || req.RetentionPeriodInDays <= next.Days):
			return invalidArgument("RetentionPeriodInDays", r.value("wormId"), "Only a locked policy can be extended, and only to more days.")
		case extend:
			next.Days = req.RetentionPeriodInDays
		default:
			next.Locked = true
		}
		b.Worm = &next
		return nil
	})
}

func (s *Server) abortWorm(w http.ResponseWriter, r *request) error {
	return s.changeBucket(w, r, http.StatusNoContent, func(b *bucketState) error {
		if b.Worm != nil && b.Worm.Locked {
			return wormLocked()
		}
		b.Worm = nil
		return nil
	})
}

// Encryption by default.

type xmlDefaultSSE struct {
	SSEAlgorithm      string
	KMSMasterKeyID    string `xml:",omitempty"`
	KMSDataEncryption string `xml:",omitempty"`
}

type xmlEncryption struct {
	XMLName xml.Name      `xml:"ServerSideEncryptionRule"`
	Default xmlDefaultSSE `xml:"ApplyServerSideEncryptionByDefault"`
}

func (s *Server) getEncryption(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	if b.SSE.SSE == "" {
		return errorf(404, "NoSuchServerSideEncryptionRule", "The server side encryption rule does not exist.", "0015-00000701", [2]string{"BucketName", r.bucket})
	}
	return writeXML(w, xmlEncryption{Default: xmlDefaultSSE{b.SSE.SSE, b.SSE.SSEKey, b.SSE.SSEData}})
}

func (s *Server) putEncryption(w http.ResponseWriter, r *request) error {
	var req xmlEncryption
	if err := document(r, &req); err != nil {
		return err
	}
	h := http.Header{}
	h.Set("X-Oss-Server-Side-Encryption", req.Default.SSEAlgorithm)
	h.Set("X-Oss-Server-Side-Data-Encryption", req.Default.KMSDataEncryption)
	h.Set("X-Oss-Server-Side-Encryption-Key-Id", req.Default.KMSMasterKeyID)
	var a attributes
	if err := a.encryption(h); err != nil || a.SSE == "" {
		return malformedXML()
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error { b.SSE = a; return nil })
}

func (s *Server) deleteEncryption(w http.ResponseWriter, r *request) error {
	return s.changeBucket(w, r, http.StatusNoContent, func(b *bucketState) error { b.SSE = attributes{}; return nil })
}

// Direct reads of archived objects.

type xmlDirectRead struct {
	XMLName xml.Name `xml:"ArchiveDirectReadConfiguration"`
	Enabled bool
}

func (s *Server) getDirectRead(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	return writeXML(w, xmlDirectRead{Enabled: b.DirectRead})
}

func (s *Server) putDirectRead(w http.ResponseWriter, r *request) error {
	var req xmlDirectRead
	if err := document(r, &req); err != nil {
		return err
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error { b.DirectRead = req.Enabled; return nil })
}

// Lifecycle rules are kept and told, without effect here: what they do takes days.

func (s *Server) getLifecycle(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	if b.Lifecycle == "" {
		return errorf(404, "NoSuchLifecycle", "No Row found in Lifecycle Table.", "0015-00000801", [2]string{"BucketName", r.bucket})
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, b.Lifecycle) // a client that went away is not our error
	return nil
}

func (s *Server) putLifecycle(w http.ResponseWriter, r *request) error {
	p, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
	if err != nil {
		return malformedXML()
	}
	if err := checkLifecycle(p); err != nil {
		return err
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error { b.Lifecycle = string(p); return nil })
}

func (s *Server) deleteLifecycle(w http.ResponseWriter, r *request) error {
	return s.changeBucket(w, r, http.StatusNoContent, func(b *bucketState) error { b.Lifecycle = ""; return nil })
}

func checkLifecycle(p []byte) error {
	type action struct {
		Days              *int
		CreatedBeforeDate string
		StorageClass      string
	}
	var doc struct {
		XMLName xml.Name `xml:"LifecycleConfiguration"`
		Rule    []struct {
			ID, Prefix, Status          string
			Expiration                  *action
			Transition                  []action
			AbortMultipartUpload        *action
			NoncurrentVersionExpiration *struct{ NoncurrentDays int }
			NoncurrentVersionTransition []struct{ NoncurrentDays int }
		}
	}
	if xml.Unmarshal(p, &doc) != nil || len(doc.Rule) == 0 || len(doc.Rule) > 1000 {
		return malformedXML()
	}
	ids := map[string]bool{}
	for _, rule := range doc.Rule {
		acts := rule.Expiration != nil || len(rule.Transition) > 0 || rule.AbortMultipartUpload != nil || rule.NoncurrentVersionExpiration != nil || len(rule.NoncurrentVersionTransition) > 0
		if !acts || rule.Status != "Enabled" && rule.Status != "Disabled" || rule.ID != "" && ids[rule.ID] {
			return malformedXML()
		}
		ids[rule.ID] = true
	}
	return nil
}

// Tags of a bucket.

func (s *Server) getBucketTags(w http.ResponseWriter, r *request) error {
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return noSuchBucket(r.bucket)
	}
	return writeXML(w, taggingXML(b.Tags))
}

func (s *Server) putBucketTags(w http.ResponseWriter, r *request) error {
	tags, err := tagsOf(r)
	if err != nil {
		return err
	}
	return s.changeBucket(w, r, http.StatusOK, func(b *bucketState) error { b.Tags = tags; return nil })
}

func (s *Server) deleteBucketTags(w http.ResponseWriter, r *request) error {
	keys := strings.Split(r.value("tagging"), ",")
	return s.changeBucket(w, r, http.StatusNoContent, func(b *bucketState) error {
		b.Tags = slices.DeleteFunc(slices.Clone(b.Tags), func(t tag) bool {
			return r.value("tagging") == "" || slices.Contains(keys, t.Key)
		})
		return nil
	})
}

// tagged says whether a bucket has what a listing of buckets asks for: tag-key and
// tag-value, or tagging="k1":"v1","k2":"v2".
func tagged(b *bucketState, r *request) bool {
	has := func(k, v string, whatever bool) bool {
		return slices.ContainsFunc(b.Tags, func(t tag) bool { return t.Key == k && (whatever || t.Value == v) })
	}
	if k := r.value("tag-key"); k != "" && !has(k, r.value("tag-value"), !r.has("tag-value")) {
		return false
	}
	if text := r.value("tagging"); text != "" {
		for pair := range strings.SplitSeq(text, ",") {
			k, v, _ := strings.Cut(pair, ":")
			if !has(strings.Trim(k, `"`), strings.Trim(v, `"`), false) {
				return false
			}
		}
	}
	return true
}
