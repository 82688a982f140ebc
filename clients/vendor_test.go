package clients

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ossuary/ossemu"
)

// suite is a test suite of the vendor's that was written to run against the real
// service. It runs against the emulator as it is; what does not is named, with the
// reason, so that a new version of an SDK cannot bring tests that nobody sees.
type suite struct {
	pkg, module string
	tags        string
	files       string         // of the tests that need a server
	declared    *regexp.Regexp // a test's declaration
	not         map[string]string
}

// Reasons that many have.
const (
	notHere    = "a feature that the emulator does not have"
	signV2     = "V2 signatures, which were given up"
	clientSide = "tests the client's own speed or time"
	needsSTS   = "calls the vendor's STS"
	needsNames = "wants other names than an emulator has"
)

func reasons(groups map[string]string) map[string]string {
	out := map[string]string{}
	for reason, names := range groups {
		for name := range strings.FieldsSeq(names) {
			out[name] = reason
		}
	}
	return out
}

var suiteV2 = suite{
	pkg: "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss", module: "github.com/aliyun/alibabacloud-oss-go-sdk-v2",
	tags: "integration", files: "oss/client_integration*_test.go", declared: regexp.MustCompile(`(?m)^func (Test\w+)\(`),
	not: reasons(map[string]string{
		notHere: `TestAccessPoint TestAccessPointForObjectProcess TestAccessPointPublicAccessBlock TestBucketAccessMonitor TestBucketCors
			TestBucketHttpsConfig TestBucketInventory TestBucketLogging TestBucketMetadataTableConfiguration TestBucketOverwriteConfig
			TestInvokeOperation_BucketPolicy TestBucketPolicy TestBucketStorageQuota TestBucketReferer TestBucketReplication
			TestPutBucketRequestPayment TestGetBucketRequestPayment TestBucketResourceGroup TestBucketStyle TestBucketTransferAcceleration
			TestBucketWebsite TestBucketObjectWormConfiguration TestObjectWorm TestCname TestMetaQuery TestDoMetaQueryAction
			TestDoDataPipeLineAction TestRedundancyTransition TestRegions TestProcessObject TestAsyncProcessObject TestGetObjectWithProcess
			TestCreateSelectObjectMeta TestSelectObject TestPutSymlink TestGetSymlink TestPublicAccessBlock TestBucketPublicAccessBlock`,
		"callbacks to a web server of the vendor's": `TestPutObject TestCompleteMultipartUpload`,
		needsSTS:   `TestPresignWithStsToken`,
		needsNames: `TestGetBucketInfo TestAddressingModePathStyle`,
	}),
}

var suiteV1 = suite{
	pkg: "github.com/aliyun/aliyun-oss-go-sdk/oss", module: "github.com/aliyun/aliyun-oss-go-sdk",
	files: "oss/*_test.go", declared: regexp.MustCompile(`(?m)^func \(\w+ \*(Oss(?:Bucket|BucketMultipart|Copy|Download|Upload|Crc|Progress)Suite)\) (Test\w+)\(`),
	not: reasons(map[string]string{
		notHere: `OssBucketSuite.TestProcessObject OssBucketSuite.TestAsyncProcessObject OssBucketSuite.TestCloudBoxObject
			OssBucketSuite.TestGetObjectNormal OssBucketSuite.TestOptionsMethod OssBucketSuite.TestSymlink OssBucketSuite.TestVersioningSymlink`,
		"callbacks to a web server of the vendor's": `OssBucketSuite.TestPutObjectWithCallbackResult
			OssBucketMultipartSuite.TestMultipartUploadWithCallbackResult OssUploadSuite.TestUploadFileWithCallbackResult`,
		signV2: `OssBucketSuite.TestQueryStringAuthV2 OssBucketSuite.TestSignURL OssBucketSuite.TestSignURLWithEscapedKey
			OssBucketSuite.TestWithEmptyObjectKey OssProgressSuite.TestSignURL OssProgressSuite.TestUploadFile`,
		clientSide: `OssBucketSuite.TestPutSingleObjectLimitSpeed OssBucketSuite.TestPutManyObjectLimitSpeed
			OssBucketSuite.TestPutMultipartObjectLimitSpeed OssBucketSuite.TestPutObjectFromFileLimitSpeed OssBucketSuite.TestUploadObjectLimitSpeed
			OssBucketSuite.TestGetSingleObjectLimitSpeed OssBucketSuite.TestContextTimeout OssBucketSuite.TestContextTimeoutBigFile
			OssBucketSuite.TestLimitUploadSpeedFail OssBucketSuite.TestPutObjectWithLimitReaderLen OssBucketSuite.TestUploadBigFile`,
		needsSTS:                   `OssBucketSuite.TestSTSToken OssBucketSuite.TestSignURLWithSignV4WithToken`,
		needsNames:                 `OssBucketSuite.TestForcePathStyle OssBucketSuite.TestUseCname`,
		"needs the vendor's proxy": `OssBucketSuite.TestSignURLWithEscapedKeyAndPorxy`,
	}),
}

func TestVendorSuiteV2(t *testing.T) {
	binary, dir, names := suiteV2.prepare(t)
	out := runSuite(t, binary, dir, "-test.timeout=10m", "-test.run=^("+strings.Join(names, "|")+")$", "-test.v")
	passed(t, names, out, regexp.MustCompile(`(?m)^--- PASS: (Test\w+)`))
}

func TestVendorSuiteV1(t *testing.T) {
	binary, dir, names := suiteV1.prepare(t)
	out := runSuite(t, binary, dir, "-test.timeout=10m", "-test.run=^Test$", "-check.v", "-check.f=^("+strings.ReplaceAll(strings.Join(names, "|"), ".", `\.`)+")$")
	passed(t, names, out, regexp.MustCompile(`(?m)^PASS: \S+ (\S+)`))
}

// prepare builds the suite, and returns the tests of it that are to run.
func (s *suite) prepare(t *testing.T) (binary, dir string, names []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the vendor's suites take minutes: leave -short out")
	}
	t.Parallel()
	root := output(t, "go", "list", "-m", "-f", "{{.Dir}}", s.module)
	scratch := t.TempDir()
	// They lie beside their samples and write where they run.
	dir = filepath.Join(scratch, "oss")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if sample := filepath.Join(root, "sample"); exists(sample) {
		if err := os.CopyFS(filepath.Join(scratch, "sample"), os.DirFS(sample)); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(scratch, "suite.test")
	output(t, "go", "test", "-c", "-tags="+s.tags, "-o", binary, s.pkg)
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(s.files)))
	if err != nil {
		t.Fatal(err)
	}
	missing := maps.Clone(s.not)
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.declared.FindAllStringSubmatch(string(p), -1) {
			name := strings.Join(m[1:], ".")
			if _, not := s.not[name]; not {
				delete(missing, name)
				continue
			}
			names = append(names, name)
		}
	}
	for name := range missing {
		t.Errorf("%s is not a test of this suite any more", name)
	}
	slices.Sort(names)
	t.Logf("%d tests, and %d that are not for an emulator", len(names), len(s.not))
	return binary, dir, names
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

func runSuite(t *testing.T, binary, dir string, args ...string) string {
	t.Helper()
	srv := ossemu.Start(t, ossemu.Options{Region: ossemu.Region})
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"OSS_TEST_ENDPOINT="+srv.Endpoint, "OSS_TEST_REGION="+srv.Region,
		"OSS_TEST_ACCESS_KEY_ID="+srv.AccessKeyID, "OSS_TEST_ACCESS_KEY_SECRET="+srv.AccessKeySecret)
	out, err := cmd.CombinedOutput()
	if err != nil {
		const tail = 8 << 10
		t.Errorf("%v\n%s", err, out[max(0, len(out)-tail):])
	}
	return string(out)
}

// passed checks that each test ran to its end: one that panics takes others along.
func passed(t *testing.T, names []string, out string, pass *regexp.Regexp) {
	t.Helper()
	got := map[string]bool{}
	for _, m := range pass.FindAllStringSubmatch(out, -1) {
		got[m[1]] = true
	}
	for _, name := range names {
		if !got[name] {
			t.Errorf("%s has not passed", name)
		}
	}
	t.Logf("%d have passed", len(got))
}
