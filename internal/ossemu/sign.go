package ossemu

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxSkew      = 15 * time.Minute
	v4Algorithm  = "OSS4-HMAC-SHA256"
	v4TimeFormat = "20060102T150405Z"
)

// authenticate checks the signature of a request: V1 or V4, in the header or in
// the query (presigned).
func (s *Server) authenticate(r *request) error {
	s.keysMu.RLock()
	open := s.open
	s.keysMu.RUnlock()
	if open {
		return nil
	}
	auth := r.Header.Get("Authorization")
	var err error
	switch {
	case strings.HasPrefix(auth, v4Algorithm+" "):
		err = s.checkV4(r, auth)
	case strings.HasPrefix(auth, "OSS "):
		err = s.checkV1(r, auth)
	case r.value("x-oss-signature-version") == v4Algorithm:
		err = s.checkV4Query(r)
	case r.has("OSSAccessKeyId"):
		err = s.checkV1Query(r)
	case auth == "":
		return s.anonymous(r)
	default:
		return invalidArgument("Authorization", auth, "Authorization header is invalid.")
	}
	if err != nil {
		return err
	}
	return s.checkToken(r)
}

// checkToken checks what makes a temporary key valid.
func (s *Server) checkToken(r *request) error {
	s.keysMu.RLock()
	key := s.keys[r.keyID]
	s.keysMu.RUnlock()
	token := r.Header.Get("X-Oss-Security-Token")
	for _, name := range []string{"x-oss-security-token", "security-token"} {
		if token == "" {
			token = r.value(name)
		}
	}
	if !equal(token, key.Token) {
		return errorf(403, "InvalidSecurityToken", "The security token you provided is invalid.", "0002-00000301")
	}
	if !key.Expires.IsZero() && !s.opt.Now().Before(key.Expires) {
		return errorf(403, "SecurityTokenExpired", "The security token you provided has expired.", "0002-00000302")
	}
	return nil
}

// anonymous lets requests without a signature do what the ACL lets everybody.
func (s *Server) anonymous(r *request) error {
	denied := accessDenied("You have no right to access this object because of bucket acl.", "0003-00000001")
	b, ok := s.store.bucketState(r.bucket)
	if !ok {
		return denied
	}
	acl := b.ACL
	write := false
	switch r.op {
	case "list":
	case "get", "head", "object_meta":
		if st, _, err := s.store.look(r.bucket, r.key, r.value("versionId"), false); err == nil && st.ACL != "" && st.ACL != aclDefault {
			acl = st.ACL
		}
	case "put", "append", "delete":
		write = true
		if st, _, err := s.store.look(r.bucket, r.key, "", false); err == nil && st.ACL != "" && st.ACL != aclDefault {
			acl = st.ACL
		}
	default:
		return denied
	}
	if acl == "public-read-write" || acl == "public-read" && !write {
		return nil
	}
	return denied
}

// secret returns the secret of an access key, and notes whose request it is.
func (s *Server) secret(r *request, id string) (string, error) {
	s.keysMu.RLock()
	key, ok := s.keys[id]
	s.keysMu.RUnlock()
	if !ok {
		return "", errorf(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902", [2]string{"OSSAccessKeyId", id})
	}
	r.keyID = id
	return key.Secret, nil
}

func (s *Server) checkSkew(t time.Time) error {
	now := s.opt.Now()
	if d := now.Sub(t); d > maxSkew || d < -maxSkew {
		return errorf(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "0002-00000504",
			[2]string{"MaxAllowedSkewMilliseconds", "900000"}, [2]string{"RequestTime", t.UTC().Format("2006-01-02T15:04:05.000Z")}, [2]string{"ServerTime", now.UTC().Format("2006-01-02T15:04:05.000Z")})
	}
	return nil
}

func badSignature(id, given, toSign string) *apiError {
	return errorf(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.", "0002-00000040",
		[2]string{"OSSAccessKeyId", id}, [2]string{"SignatureProvided", given}, [2]string{"StringToSign", toSign})
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// requestDate reads the time of the request: x-oss-date where given, else Date.
func requestDate(h http.Header) (time.Time, bool) {
	for _, v := range []string{h.Get("X-Oss-Date"), h.Get("Date")} {
		if v == "" {
			continue
		}
		if t, err := time.Parse(v4TimeFormat, v); err == nil {
			return t, true
		}
		t, err := http.ParseTime(v)
		return t, err == nil
	}
	return time.Time{}, false
}

func noDate() error {
	return accessDenied("OSS authentication requires a valid Date.", "0002-00000501")
}

// V1

func (s *Server) v1Allowed() error {
	if s.opt.RefuseV1 {
		return accessDenied("The V1 signature is not supported, please use the V4 signature.", "0002-00000073")
	}
	return nil
}

func (s *Server) checkV1(r *request, auth string) error {
	if err := s.v1Allowed(); err != nil {
		return err
	}
	id, sig, ok := strings.Cut(strings.TrimPrefix(auth, "OSS "), ":")
	if !ok {
		return invalidArgument("Authorization", auth, "Authorization header is invalid.")
	}
	secret, err := s.secret(r, id)
	if err != nil {
		return err
	}
	t, ok := requestDate(r.Header)
	if !ok {
		return noDate()
	}
	if err := s.checkSkew(t); err != nil {
		return err
	}
	// Clients differ in which of the two dates they sign.
	toSign := v1StringToSign(r, r.Header.Get("Date"))
	if equal(sig, v1Sign(secret, toSign)) || r.Header.Get("X-Oss-Date") != "" && equal(sig, v1Sign(secret, v1StringToSign(r, r.Header.Get("X-Oss-Date")))) {
		return nil
	}
	return badSignature(id, sig, toSign)
}

func (s *Server) checkV1Query(r *request) error {
	if err := s.v1Allowed(); err != nil {
		return err
	}
	id, expires, sig := r.value("OSSAccessKeyId"), r.value("Expires"), r.value("Signature")
	secret, err := s.secret(r, id)
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return accessDenied("Invalid expires.", "0002-00000065")
	}
	if s.opt.Now().Unix() > unix {
		return accessDenied("Request has expired.", "0002-00000069")
	}
	if toSign := v1StringToSign(r, expires); !equal(sig, v1Sign(secret, toSign)) {
		return badSignature(id, sig, toSign)
	}
	return nil
}

func v1Sign(secret, toSign string) string {
	return base64.StdEncoding.EncodeToString(mac(sha1.New, []byte(secret), toSign))
}

func mac(h func() hash.Hash, key []byte, s string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(s))
	return m.Sum(nil)
}

// v1Signed are the query parameters that V1 signs; it passes over the others.
var v1Signed = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`acl append bucketInfo callback callback-var cname comp continuation-token cors
		delete encryption img inventory inventoryId lifecycle live location logging objectMeta partNumber policy position
		qos referer replication requestPayment response-cache-control response-content-disposition
		response-content-encoding response-content-language response-content-type response-expires restore
		security-token sequential stat status style styleName symlink tagging uploadId uploads versionId versioning
		versions website worm wormId wormExtend seal cleanRestoredObject bucketArchiveDirectRead regionList cloudboxes`) {
		m[name] = true
	}
	return m
}()

func v1StringToSign(r *request, date string) string {
	var b strings.Builder
	for _, v := range []string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date} {
		b.WriteString(v + "\n")
	}
	for _, h := range ossHeaders(r.Header) {
		b.WriteString(h.name + ":" + h.value + "\n")
	}
	b.WriteString("/")
	if r.bucket != "" {
		b.WriteString(r.bucket + "/" + r.key)
	}
	var signed []string
	for _, p := range r.query {
		if v1Signed[p.name] || strings.HasPrefix(p.name, "x-oss-") {
			part := p.name
			if p.value != "" {
				part += "=" + p.value
			}
			signed = append(signed, part)
		}
	}
	slices.Sort(signed)
	if len(signed) > 0 {
		b.WriteString("?" + strings.Join(signed, "&"))
	}
	return b.String()
}

// ossHeaders returns the x-oss-* headers, in lower case and sorted.
func ossHeaders(h http.Header) []param {
	var out []param
	for name, values := range h {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-oss-") {
			out = append(out, param{name, strings.TrimSpace(values[0])})
		}
	}
	slices.SortFunc(out, func(a, b param) int { return strings.Compare(a.name, b.name) })
	return out
}

// V4

// v4Scope is a credential: id/day/region/oss/aliyun_v4_request.
type v4Scope struct{ id, day, region, product string }

func (sc v4Scope) String() string {
	return sc.day + "/" + sc.region + "/" + sc.product + "/aliyun_v4_request"
}

func parseScope(credential string) (v4Scope, bool) {
	p := strings.Split(credential, "/")
	if len(p) != 5 || p[4] != "aliyun_v4_request" {
		return v4Scope{}, false
	}
	return v4Scope{p[0], p[1], p[2], p[3]}, true
}

func (s *Server) checkV4(r *request, auth string) error {
	var credential, additional, sig string
	for part := range strings.SplitSeq(strings.TrimPrefix(auth, v4Algorithm+" "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			credential = value
		case "AdditionalHeaders":
			additional = value
		case "Signature":
			sig = value
		}
	}
	// The SDK v1 sends no x-oss-date: then the HTTP Date is signed, as it is.
	date := r.Header.Get("X-Oss-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	t, ok := requestDate(r.Header)
	if !ok {
		return noDate()
	}
	if err := s.checkSkew(t); err != nil {
		return err
	}
	return s.checkV4Signature(r, credential, additional, sig, date, t, r.query)
}

func (s *Server) checkV4Query(r *request) error {
	date := r.value("x-oss-date")
	t, err := time.Parse(v4TimeFormat, date)
	if err != nil {
		return noDate()
	}
	seconds, err := strconv.ParseInt(r.value("x-oss-expires"), 10, 64)
	if err != nil || seconds < 0 || seconds > 7*24*3600 {
		return accessDenied("Invalid expires.", "0002-00000227")
	}
	if now := s.opt.Now(); now.After(t.Add(time.Duration(seconds)*time.Second)) || t.After(now.Add(maxSkew)) {
		return accessDenied("Request has expired.", "0002-00000069")
	}
	query := slices.DeleteFunc(slices.Clone(r.query), func(p param) bool { return p.name == "x-oss-signature" })
	return s.checkV4Signature(r, r.value("x-oss-credential"), r.value("x-oss-additional-headers"), r.value("x-oss-signature"), date, t, query)
}

func (s *Server) checkV4Signature(r *request, credential, additional, sig, date string, t time.Time, query []param) error {
	scope, ok := parseScope(credential)
	if !ok {
		return errorf(400, "InvalidArgument", "Invalid Credential in Authorization header.", "0002-00000201")
	}
	secret, err := s.secret(r, scope.id)
	if err != nil {
		return err
	}
	switch {
	case scope.day != t.UTC().Format("20060102"):
		return errorf(400, "InvalidArgument", "Invalid signing date in Authorization header.", "0002-00000202")
	case s.opt.Region != "" && scope.region != s.opt.Region:
		return errorf(400, "InvalidArgument", "Invalid signing region in Authorization header.", "0002-00000203",
			[2]string{"ArgumentName", "region"}, [2]string{"ArgumentValue", scope.region})
	case scope.product != "oss":
		return errorf(400, "InvalidArgument", "Invalid signing product in Authorization header.", "0002-00000204")
	}
	for name := range strings.SplitSeq(additional, ";") {
		if name = strings.TrimSpace(name); name != "" && headerValue(r, name) == "" {
			return invalidArgument("AdditionalHeaders", name, "A header that is signed is missing.")
		}
	}
	canonical := v4Canonical(r, additional, query)
	sum := sha256.Sum256([]byte(canonical))
	toSign := v4Algorithm + "\n" + date + "\n" + scope.String() + "\n" + hex.EncodeToString(sum[:])
	key := []byte("aliyun_v4" + secret)
	for _, part := range []string{scope.day, scope.region, scope.product, "aliyun_v4_request"} {
		key = mac(sha256.New, key, part)
	}
	if !equal(sig, hex.EncodeToString(mac(sha256.New, key, toSign))) {
		err := badSignature(scope.id, sig, toSign)
		err.Extra = append(err.Extra, [2]string{"CanonicalRequest", canonical})
		return err
	}
	return nil
}

func v4Canonical(r *request, additional string, query []param) string {
	uri := "/"
	if r.bucket != "" {
		// The bucket is part of it even when it was in the host.
		uri = "/" + uriEncode(r.bucket, false) + "/" + uriEncode(r.key, true)
	}
	params := make([]string, 0, len(query))
	for _, p := range query {
		part := uriEncode(p.name, false)
		if p.value != "" {
			part += "=" + uriEncode(p.value, false)
		}
		params = append(params, part)
	}
	// By name first: "a=1" must stand before "a-b=1", as the names do.
	slices.SortFunc(params, func(a, b string) int {
		an, av, _ := strings.Cut(a, "=")
		bn, bv, _ := strings.Cut(b, "=")
		if c := strings.Compare(an, bn); c != 0 {
			return c
		}
		return strings.Compare(av, bv)
	})
	headers := ossHeaders(r.Header)
	for _, name := range []string{"Content-Type", "Content-Md5"} {
		if v, ok := r.Header[name]; ok {
			headers = append(headers, param{strings.ToLower(name), strings.TrimSpace(v[0])})
		}
	}
	var more []string
	for name := range strings.SplitSeq(additional, ";") {
		if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
			continue
		}
		more = append(more, name)
		if strings.HasPrefix(name, "x-oss-") || name == "content-type" || name == "content-md5" {
			continue // signed anyway
		}
		headers = append(headers, param{name, strings.TrimSpace(headerValue(r, name))})
	}
	slices.SortFunc(headers, func(a, b param) int { return strings.Compare(a.name, b.name) })
	slices.Sort(more)
	var b strings.Builder
	b.WriteString(r.Method + "\n" + uri + "\n" + strings.Join(params, "&") + "\n")
	for _, h := range headers {
		b.WriteString(h.name + ":" + h.value + "\n")
	}
	payload := r.Header.Get("X-Oss-Content-Sha256")
	if payload == "" {
		payload = "UNSIGNED-PAYLOAD"
	}
	b.WriteString("\n" + strings.Join(more, ";") + "\n" + payload)
	return b.String()
}

// headerValue returns a header, also those that net/http takes out of them.
func headerValue(r *request, name string) string {
	switch strings.ToLower(name) {
	case "host":
		return r.Host
	case "content-length":
		if r.ContentLength >= 0 {
			return strconv.FormatInt(r.ContentLength, 10)
		}
	}
	return r.Header.Get(name)
}

func uriEncode(s string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~', path && c == '/':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
