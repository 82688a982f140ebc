package object

import "testing"

func TestRegion(t *testing.T) {
	for endpoint, want := range map[string]string{
		"oss-cn-hangzhou.aliyuncs.com":                             "cn-hangzhou",
		"https://oss-cn-hangzhou-internal.aliyuncs.com":            "cn-hangzhou",
		"http://OSS-ap-southeast-1.aliyuncs.com:80":                "ap-southeast-1",
		"oss-ap-southeast-1-internal.aliyuncs.com":                 "ap-southeast-1",
		"vpc100-oss-cn-beijing.aliyuncs.com":                       "cn-beijing",
		"https://oss-cn-shanghai-finance-1-internal.aliyuncs.com/": "cn-shanghai-finance-1",
		"cn-hangzhou.oss.aliyuncs.com":                             "cn-hangzhou",
		"cn-hangzhou-internal.oss.aliyuncs.com":                    "cn-hangzhou",
		"oss-accelerate.aliyuncs.com":                              "",
		"oss-accelerate-overseas.aliyuncs.com":                     "",
		"https://archive.example.com":                              "",
		"127.0.0.1:9000":                                           "",
		"[::1]:9000":                                               "",
		"https://oss-cn-hangzhou.aliyuncs.com.example.com":         "",
		"https://bucket.oss-cn-hangzhou.aliyuncs.com":              "",
		"s3.oss-cn-hangzhou.aliyuncs.com":                          "",
		"":                                                         "",
		"://":                                                      "",
	} {
		if got := Region(endpoint); got != want {
			t.Errorf("%q: region %q, want %q", endpoint, got, want)
		}
	}
	if !Accelerates("https://oss-accelerate-overseas.aliyuncs.com") || Accelerates("oss-cn-hangzhou.aliyuncs.com") {
		t.Error("accelerating endpoints are not told apart")
	}
}
