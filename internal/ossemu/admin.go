package ossemu

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// adminPath cannot be a bucket's: bucket names have no underscore.
const adminPath = "/_ossemu/"

// serveAdmin serves, in JSON,
//
//	GET    /_ossemu/faults        the rules
//	POST   /_ossemu/faults        plant the Rule in the body; the answer is {"id": ...}
//	DELETE /_ossemu/faults[?id=]  remove one, or all
//	POST   /_ossemu/seed?n=       start faults by probability anew
//	POST   /_ossemu/arrive        let late requests arrive
//	GET    /_ossemu/counters      requests by operation
func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	reply := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client has gone
	}
	// A page in a browser can send simple requests to any address; it cannot
	// send them without saying where it comes from.
	if r.Header.Get("Origin") != "" {
		http.Error(w, "not for browsers", http.StatusForbidden)
		return
	}
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, adminPath) {
	case "GET faults":
		reply(s.Faults())
	case "POST faults":
		var rule Rule
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
		d.DisallowUnknownFields()
		err := d.Decode(&rule)
		id := ""
		if err == nil {
			id, err = s.AddFault(rule)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(map[string]string{"id": id})
	case "DELETE faults":
		s.ClearFaults(r.URL.Query().Get("id"))
		w.WriteHeader(http.StatusNoContent)
	case "POST seed":
		n, err := strconv.ParseUint(r.URL.Query().Get("n"), 10, 64)
		if err != nil {
			http.Error(w, "n must be a number", http.StatusBadRequest)
			return
		}
		s.faults.seed(n)
		w.WriteHeader(http.StatusNoContent)
	case "POST arrive":
		s.Arrive()
		w.WriteHeader(http.StatusNoContent)
	case "GET counters":
		reply(s.Counters())
	default:
		http.NotFound(w, r)
	}
}
