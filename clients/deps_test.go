package clients

import (
	_ "github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	_ "github.com/aliyun/aliyun-oss-go-sdk/oss"
	_ "ossuary/ossemu"
)
