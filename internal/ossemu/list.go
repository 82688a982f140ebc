package ossemu

import (
	"errors"
	"slices"
	"strings"
)

// listed is one line of a listing: an object, or a common prefix.
type listed struct {
	key    string
	prefix bool
	state
}

// list returns up to limit objects and common prefixes behind after, in
// ascending order, and whether there are more.
func (s *store) list(bucketName, prefix, delimiter, after string, limit int) (out []listed, more bool, err error) {
	for {
		key, ok, err := s.nextKey(bucketName, prefix, after)
		if err != nil || !ok {
			return out, false, err
		}
		if len(out) == limit {
			return out, true, nil
		}
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			common := key[:len(prefix)+i+len(delimiter)]
			if after == "" || !strings.HasPrefix(after, common) {
				out = append(out, listed{key: common, prefix: true})
			}
			// Behind everything that has the prefix: no key holds this byte.
			after = common + "\xff"
			continue
		}
		after = key
		st, _, err := s.look(bucketName, key, "", false)
		var api *apiError
		switch {
		case errors.As(err, &api) && api.Code == "NoSuchKey":
			continue // removed by hand, or just now
		case err != nil:
			return nil, false, err
		}
		out = append(out, listed{key: key, state: st})
	}
}

// nextKey returns the first key with the prefix that is greater than after.
func (s *store) nextKey(bucketName, prefix, after string) (string, bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.buckets[bucketName]
	if b == nil {
		return "", false, noSuchBucket(bucketName)
	}
	i, _ := slices.BinarySearch(b.keys, prefix)
	if after >= prefix {
		var found bool
		if i, found = slices.BinarySearch(b.keys, after); found {
			i++
		}
	}
	if i == len(b.keys) || !strings.HasPrefix(b.keys[i], prefix) {
		return "", false, nil
	}
	return b.keys[i], true, nil
}
