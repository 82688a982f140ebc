package ossemu

import (
	"errors"
	"fmt"
)

// create makes an empty file for a key that has no version at all; the caller
// holds e.mu, and until it commits the object, the file is pending.
func (s *store) create(b *bucket, key string, e *entry) (string, error) {
	p, plain := place(b.name, key)
	for {
		// Noted first: a file nobody knows of would be taken for one that was
		// laid there by hand.
		if err := s.commit(b, key, e, state{Path: p, Pending: "create"}); err != nil {
			return "", err
		}
		err := s.files.create(p)
		if errors.Is(err, errNoPlace) && plain {
			p, plain = escaped(b.name, key), false
			continue
		}
		if err != nil {
			return "", errors.Join(fmt.Errorf("creating the file of %s: %w", key, err), s.mend(e))
		}
		return p, nil
	}
}

// appended is what an append of so many bytes at a position makes of a key, as
// far as it is allowed; the caller holds e.mu.
func (s *store) appended(b *bucket, key string, e *entry, position, n int64) (history, error) {
	h := e.history
	switch {
	case e.Exists && !e.Appendable, e.Exists && !e.Sealed.IsZero():
		return h, errorf(409, "ObjectNotAppendable", "The object is not appendable", "0026-00000020", [2]string{"Bucket", b.name}, [2]string{"Object", key})
	case e.Marker && s.opt.Variants.NoAppendOverMarker:
		return h, errorf(409, "ObjectNotAppendable", "The object is a delete marker", "0026-00000021", [2]string{"Bucket", b.name}, [2]string{"Object", key})
	case position != e.Length:
		return h, positionMismatch(e.Length)
	case e.Length+n > s.opt.MaxObject:
		return h, errorf(400, "EntityTooLarge", "Your proposed append exceeds the maximum allowed object size.", "0017-00000601")
	}
	return h, s.retained(b, &e.state)
}

// append is the append itself: the bytes go behind the committed length, where
// nobody reads, and the commit makes them part of the object.
func (s *store) append(bucketName, key string, position int64, data *body, attrs attributes) (state, error) {
	b, done, err := s.enter(bucketName)
	if err != nil {
		return state{}, err
	}
	defer done()
	e := s.entry(b, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !s.fresh(b, key, e) {
		if err := s.refresh(b, key, e); err != nil {
			return state{}, err
		}
	}
	h, err := s.appended(b, key, e, position, data.n)
	if err != nil {
		return state{}, err
	}
	created := !e.Exists
	unnoted := "" // a file that the journal does not know
	switch {
	case created && !e.any():
		p, err := s.create(b, key, e)
		if err != nil {
			return state{}, err
		}
		h.state = state{Exists: true, Path: p, Appendable: true, Version: b.newVersion()}
	case created:
		unnoted = versionPlace(b.name, key)
		if err := s.files.create(unnoted); err != nil {
			return state{}, fmt.Errorf("creating a version's file: %w", err)
		}
		version := b.newVersion()
		h = e.push(version)
		h.state = state{Exists: true, Path: unnoted, Appendable: true, Version: version}
	case attrs.ACL != "":
		// Of all that an object has, the ACL alone is taken from later appends.
		h.ACL = attrs.ACL
	}
	if created {
		h.attributes = attrs
		b.defaults(&h.attributes)
	}
	// What has failed may have left bytes behind the object, or an object of
	// none. Should they not go away now, they must before the next look.
	undo := func(err error) (state, error) {
		if unnoted != "" {
			return state{}, errors.Join(err, s.files.remove(unnoted))
		}
		if !created {
			s.journal.locked(func() { e.Pending = "cut" })
		}
		return state{}, errors.Join(err, s.mend(e))
	}
	if !created && data.n == 0 && h.ACL == e.ACL {
		return h.state, nil
	}
	if data.n > 0 {
		if h.CRC, err = data.crc(s.files, h.CRC); err != nil {
			return undo(err)
		}
		if err := s.files.write(h.Path, h.Length, data); err != nil {
			return undo(err)
		}
	}
	h.Length += data.n
	// Appends to a version do not make it younger: the service says so of its
	// versioned buckets, and the opposite of the others.
	if created || b.Versioning == "" && data.n > 0 {
		h.Modified = s.opt.Now().UTC()
	}
	h.ETag = appendETag(&h.state)
	// Here it happens: before the record is in the journal the object is as it
	// was (the bytes behind it are cut off when the store opens), and after it
	// the object has all of them.
	if err := s.commitAll(b, key, e, h); err != nil {
		return undo(err)
	}
	s.swept(e)
	return h.state, nil
}

// seal ends an object: it takes no appends any more.
func (s *store) seal(bucketName, key string, position int64) (state, error) {
	return s.change(bucketName, key, "", func(b *bucket, st *state) error {
		switch {
		case !st.Appendable:
			return errorf(409, "ObjectNotAppendable", "The object is not appendable", "0026-00000020", [2]string{"Bucket", bucketName}, [2]string{"Object", key})
		case position != st.Length:
			return positionMismatch(st.Length)
		case st.Sealed.IsZero():
			st.Sealed = s.opt.Now().UTC()
		}
		return nil
	})
}
