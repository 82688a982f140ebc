package ossemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

const (
	journalName    = metaDir + "/journal"
	journalNew     = metaDir + "/journal.new"
	journalVersion = 2 // 1 had no versions of objects
	// A running journal is compacted when it has grown past this and past eight
	// times what it was after the last compaction.
	compactAt = 32 << 20
)

// record is one line of the journal: eight hex digits of CRC-32C, a space, and
// this as JSON. Each tells the whole state of one thing, so that the last one
// holds.
type record struct {
	Op      string       `json:"op"` // journal, bucket, nobucket, object, close
	Version int          `json:"v,omitempty"`
	Bucket  string       `json:"b,omitempty"`
	Key     string       `json:"k,omitempty"`
	Info    *bucketState `json:"bucket,omitempty"`
	Object  *state       `json:"o,omitempty"`
	Old     []state      `json:"old,omitempty"`
	Trash   []string     `json:"x,omitempty"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the commit point of every change. In memory mode it has no file
// and only orders the changes.
//
// An object's state changes only inside commit, so whoever holds mu sees all
// that is committed and nothing else; that makes compacting a running journal
// correct.
type journal struct {
	mu     sync.Mutex
	root   *os.Root // nil: memory
	file   *os.File
	size   int64 // what is known to be good; a failed write is cut back to it
	base   int64 // size after the last compaction
	fsync  bool
	broken error // set for good when the file can no longer be trusted

	snapshot func(yield func(*record) error) error // all that is committed; called with mu held
}

var errClosed = errors.New("the store is closed")

// commit writes the record; then it is true, and apply makes it visible. A
// crash before the write leaves what was before, a crash after it what is new.
func (j *journal) commit(rec *record, apply func()) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	if j.file != nil {
		line, err := encodeRecord(rec)
		if err != nil {
			return err
		}
		if err := j.write(line); err != nil {
			return err
		}
	}
	apply()
	if j.file != nil && j.size > compactAt && j.size > 8*j.base {
		if err := j.compact(); err != nil {
			j.broken = fmt.Errorf("compacting the journal: %w", err)
		}
	}
	return nil
}

// failed says why the file can no longer be trusted: the last record may be in it
// or not.
func (j *journal) failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// locked runs f under the journal's lock: for changes of what is committed that
// need no record.
func (j *journal) locked(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *journal) write(line []byte) error {
	_, err := j.file.WriteAt(line, j.size)
	if err == nil && j.fsync {
		err = j.file.Sync()
	}
	if err != nil {
		// Half a line would hide every later one. After a failed sync nobody
		// knows what is on the disk, so that is not repaired.
		if cut := j.file.Truncate(j.size); cut != nil || j.fsync {
			j.broken = fmt.Errorf("the journal cannot be written: %w", err)
		}
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.size += int64(len(line))
	return nil
}

func encodeRecord(rec *record) ([]byte, error) {
	p, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encoding a journal record: %w", err)
	}
	return fmt.Appendf(make([]byte, 0, len(p)+10), "%08x %s\n", crc32.Checksum(p, castagnoli), p), nil
}

func decodeRecord(line []byte, rec *record) bool {
	if len(line) < 10 || line[8] != ' ' || line[len(line)-1] != '\n' {
		return false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	p := line[9 : len(line)-1]
	return err == nil && uint32(sum) == crc32.Checksum(p, castagnoli) && json.Unmarshal(p, rec) == nil
}

// replay reads the journal and gives each record to fn. clean says whether the
// last server closed it. A torn last line is what a kill leaves, and is passed
// over; anything else that does not read is an error, since what follows it
// would be lost.
func replay(root *os.Root, fn func(*record) error) (clean bool, err error) {
	f, err := root.Open(journalName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, 1<<20)
	var at int64
	for {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return false, fmt.Errorf("reading the journal: %w", err)
		}
		if len(line) == 0 {
			return clean, nil
		}
		var rec record
		if !decodeRecord(line, &rec) {
			rest, restErr := io.ReadAll(r)
			if restErr != nil {
				return false, fmt.Errorf("reading the journal: %w", restErr)
			}
			if len(bytes.Trim(rest, "\x00")) == 0 {
				return false, nil
			}
			return false, fmt.Errorf("%s is damaged at byte %d: cut it there to go back to that state, or remove it to take the files as they are", f.Name(), at)
		}
		if rec.Version > journalVersion {
			return false, fmt.Errorf("%s has version %d, this program knows %d", f.Name(), rec.Version, journalVersion)
		}
		if clean = rec.Op == "close"; !clean {
			if err := fn(&rec); err != nil {
				return false, err
			}
		}
		at += int64(len(line))
	}
}

// compact writes what is committed into a new journal and puts it in the old
// one's place. The caller holds mu, or is alone.
func (j *journal) compact() error {
	f, err := j.root.OpenFile(journalNew, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	var size int64
	w := bufio.NewWriterSize(f, 256<<10)
	write := func(rec *record) error {
		line, err := encodeRecord(rec)
		if err != nil {
			return err
		}
		size += int64(len(line))
		_, err = w.Write(line)
		return err
	}
	err = write(&record{Op: "journal", Version: journalVersion})
	if err == nil {
		err = j.snapshot(write)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		// The old journal goes away for this one, so it must really be there.
		err = f.Sync()
	}
	if err == nil {
		err = j.root.Rename(journalNew, journalName)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	if j.file != nil {
		_ = j.file.Close() // nothing of it is read again
	}
	j.file, j.size, j.base = f, size, size
	if j.fsync {
		return syncDir(j.root, metaDir)
	}
	return nil
}

// close ends the journal; clean notes in it that the files are as it says.
func (j *journal) close(clean bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		j.broken = errClosed
		return nil
	}
	var err error
	if j.broken == nil && clean {
		var line []byte
		if line, err = encodeRecord(&record{Op: "close"}); err == nil {
			err = j.write(line)
		}
		if err == nil {
			err = j.file.Sync()
		}
	}
	j.broken = errClosed
	return errors.Join(err, j.file.Close())
}

func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
