package ossemu

import (
	"encoding/base64"
	"encoding/xml"
	"net"
	"net/http"
	"strconv"
)

// apiError is an error as the service words it.
type apiError struct {
	Status  int
	Code    string
	Message string
	EC      string            // the service's finer code; clients must not rely on it
	Extra   [][2]string       // further elements of the body
	Header  map[string]string // further headers
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func errorf(status int, code, message, ec string, extra ...[2]string) *apiError {
	return &apiError{Status: status, Code: code, Message: message, EC: ec, Extra: extra}
}

func noSuchBucket(name string) *apiError {
	return errorf(404, "NoSuchBucket", "The specified bucket does not exist.", "0015-00000101", [2]string{"BucketName", name})
}

func noSuchKey(key string) *apiError {
	return errorf(404, "NoSuchKey", "The specified key does not exist.", "0026-00000001", [2]string{"Key", key})
}

func accessDenied(message, ec string) *apiError {
	return errorf(403, "AccessDenied", message, ec)
}

func invalidArgument(name, value, message string) *apiError {
	return errorf(400, "InvalidArgument", message, "0017-00000902", [2]string{"ArgumentName", name}, [2]string{"ArgumentValue", value})
}

func notImplemented(what string) *apiError {
	return errorf(501, "NotImplemented", "A header or query you provided implies functionality that is not implemented: "+what, "0017-00000801")
}

func positionMismatch(length int64) *apiError {
	e := errorf(409, "PositionNotEqualToLength", "Position is not equal to file length", "0026-00000016")
	e.Header = map[string]string{"X-Oss-Next-Append-Position": strconv.FormatInt(length, 10)}
	return e
}

func internalError(err error) *apiError {
	return errorf(500, "InternalError", "We encountered an internal error. Please try again. ("+err.Error()+")", "0048-00000001")
}

type xmlElement struct {
	XMLName xml.Name
	Value   string `xml:",chardata"`
}

type xmlError struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	RequestID string `xml:"RequestId"`
	HostID    string `xml:"HostId"`
	Extra     []xmlElement
	EC        string
}

// writeError answers with e. The answer to a HEAD has no body; there the body
// goes into a header.
func writeError(w http.ResponseWriter, r *http.Request, requestID string, e *apiError) {
	body := xmlError{Code: e.Code, Message: e.Message, RequestID: requestID, HostID: hostID(r.Host), EC: e.EC}
	for _, x := range e.Extra {
		body.Extra = append(body.Extra, xmlElement{xml.Name{Local: x[0]}, x[1]})
	}
	p, err := xml.MarshalIndent(body, "", "  ")
	if err != nil {
		p = []byte("<Error><Code>" + e.Code + "</Code></Error>") // codes are plain words
	}
	p = append([]byte(xml.Header), append(p, '\n')...)
	h := w.Header()
	for k, v := range e.Header {
		h.Set(k, v)
	}
	h.Set("X-Oss-Ec", e.EC)
	note(w, e)
	h.Set("Content-Type", "application/xml")
	if r.Method == http.MethodHead {
		h.Set("X-Oss-Err", base64.StdEncoding.EncodeToString(p))
		w.WriteHeader(e.Status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(p)))
	w.WriteHeader(e.Status)
	w.Write(p)
}

// hostID is the host without its port, as errors name it.
func hostID(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func writeXML(w http.ResponseWriter, v any) error {
	p, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		return internalError(err)
	}
	p = append([]byte(xml.Header), append(p, '\n')...)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(p)))
	w.Write(p) // a client that went away is not our error
	return nil
}
