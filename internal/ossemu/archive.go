package ossemu

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Archived objects take appends, and are read only after they were restored, or
// where their bucket reads them directly.

// restore says when an archived object can be read.
type restore struct {
	From  time.Time `json:"f"`
	Until time.Time `json:"u"`
}

// restoreTime is how long a restoration takes: what the documents say of the
// Archive class, and less than they say of the colder ones.
const restoreTime = time.Minute

func (a *attributes) archived() bool {
	switch a.Class {
	case "Archive", "ColdArchive", "DeepColdArchive":
		return true
	}
	return false
}

// readable says that an archived object cannot be read now.
func (s *Server) readable(r *request, st *state) error {
	if !st.archived() {
		return nil
	}
	if b, _ := s.store.bucketState(r.bucket); b.DirectRead && st.Class == "Archive" {
		return nil
	}
	if now := s.opt.Now(); st.Restore != nil && !now.Before(st.Restore.From) && now.Before(st.Restore.Until) {
		return nil
	}
	return errorf(403, "InvalidObjectState", "The operation is not valid for the object's state", "0016-00000701", [2]string{"ObjectName", r.key})
}

func (s *Server) restoreHeader(h http.Header, st *state) {
	now := s.opt.Now()
	switch {
	case st.Restore == nil || !now.Before(st.Restore.Until):
	case now.Before(st.Restore.From):
		h.Set("X-Oss-Restore", `ongoing-request="true"`)
	default:
		h.Set("X-Oss-Restore", fmt.Sprintf(`ongoing-request="false", expiry-date="%s"`, st.Restore.Until.UTC().Format(http.TimeFormat)))
	}
}

func (s *Server) restoreObject(w http.ResponseWriter, r *request) error {
	req := struct {
		XMLName       xml.Name `xml:"RestoreRequest"`
		Days          int
		JobParameters struct{ Tier string }
	}{Days: 1}
	if err := xml.NewDecoder(io.LimitReader(r.Body, maxDocument)).Decode(&req); err != nil && !errors.Is(err, io.EOF) || req.Days < 1 || req.Days > 365 {
		return malformedXML()
	}
	status := http.StatusAccepted
	st, err := s.store.change(r.bucket, r.key, r.value("versionId"), func(_ *bucket, st *state) error {
		now := s.opt.Now().UTC()
		until := now.Add(restoreTime).AddDate(0, 0, req.Days)
		switch {
		case !st.archived():
			return errorf(400, "OperationNotSupported", "The operation is not supported for this resource", "0016-00000702")
		case st.Restore != nil && now.Before(st.Restore.From):
			return errorf(409, "RestoreAlreadyInProgress", "The restore operation is in progress.", "0016-00000703")
		case st.Restore != nil && now.Before(st.Restore.Until):
			status = http.StatusOK
			st.Restore = &restore{From: st.Restore.From, Until: until}
		default:
			st.Restore = &restore{From: now.Add(restoreTime), Until: until}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if req.JobParameters.Tier != "" {
		w.Header().Set("X-Oss-Object-Restore-Priority", req.JobParameters.Tier)
	}
	versionHeader(w, &st)
	return done(w, status)
}

func (s *Server) cleanRestored(w http.ResponseWriter, r *request) error {
	return s.changeObject(w, r, http.StatusOK, func(_ *bucket, st *state) error {
		if now := s.opt.Now(); st.Restore != nil && now.Before(st.Restore.From) {
			return errorf(409, "ArchiveRestoreNotFinished", "The archive file's restore is not finished.", "0016-00000719")
		}
		st.Restore = nil
		return nil
	})
}
