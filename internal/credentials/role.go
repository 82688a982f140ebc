package credentials

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// Role is a RAM role that is taken on through STS.
type Role struct {
	ARN             string // acs:ram::<account>:role/<name>
	SessionName     string
	SessionDuration time.Duration // at least 15 minutes
	ExternalID      string        // AssumeRole only
	Policy          string        // narrows what the role may; may be ""
	STSEndpoint     string        // host; "" for sts.aliyuncs.com
	Proxy           string        // URL; "" for what the environment says
}

// Instance takes the role of the ECS instance that this runs on from its
// metadata service. name is the role's; "" asks for it.
func Instance(name string) (Get, error) {
	p, err := providers.NewECSRAMRoleCredentialsProviderBuilder().WithRoleName(name).Build()
	if err != nil {
		return nil, fmt.Errorf("the instance's role: %w", err)
	}
	return from("the instance's role", p), nil
}

// Assume takes the role on with the keys of base, which is asked each time.
func Assume(base Get, r Role) (Get, error) {
	p, err := providers.NewRAMRoleARNCredentialsProviderBuilder().
		WithCredentialsProvider(source{base}).
		WithRoleArn(r.ARN).WithRoleSessionName(r.SessionName).WithDurationSeconds(int(r.SessionDuration.Seconds())).
		WithExternalId(r.ExternalID).WithPolicy(r.Policy).WithStsEndpoint(r.STSEndpoint).
		WithHttpOptions(&providers.HttpOptions{Proxy: r.Proxy}).
		Build()
	if err != nil {
		return nil, fmt.Errorf("taking on the role %s: %w", r.ARN, err)
	}
	return from("taking on the role "+r.ARN, p), nil
}

// OIDC takes the role on by the token in a file, which is read each time (RRSA).
// What is empty is taken from ALIBABA_CLOUD_ROLE_ARN, ALIBABA_CLOUD_OIDC_PROVIDER_ARN
// and ALIBABA_CLOUD_OIDC_TOKEN_FILE, as a cluster of ACK sets them.
func OIDC(providerARN, tokenFile string, r Role) (Get, error) {
	p, err := providers.NewOIDCCredentialsProviderBuilder().
		WithOIDCProviderARN(providerARN).WithOIDCTokenFilePath(tokenFile).
		WithRoleArn(r.ARN).WithRoleSessionName(r.SessionName).WithDurationSeconds(int(r.SessionDuration.Seconds())).
		WithPolicy(r.Policy).WithSTSEndpoint(r.STSEndpoint).
		WithHttpOptions(&providers.HttpOptions{Proxy: r.Proxy}).
		Build()
	if err != nil {
		return nil, fmt.Errorf("taking on a role by a token: %w", err)
	}
	return from("taking on a role by a token", p), nil
}

func from(doing string, p providers.CredentialsProvider) Get {
	return func() (Keys, error) {
		c, err := p.GetCredentials()
		if err != nil {
			return Keys{}, fmt.Errorf("%s: %w", doing, discreet(err))
		}
		return Keys{c.AccessKeyId, c.AccessKeySecret, c.SecurityToken}, nil
	}
}

// discreet takes the query out of a failed request's error: it holds the token
// that the role was asked for with.
func discreet(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	at, _, _ := strings.Cut(ue.URL, "?")
	return fmt.Errorf("%s %s: %w", ue.Op, at, ue.Err)
}

// source gives the library keys of ours.
type source struct{ get Get }

func (s source) GetCredentials() (*providers.Credentials, error) {
	k, err := s.get()
	if err != nil {
		return nil, err
	}
	return &providers.Credentials{AccessKeyId: k.ID, AccessKeySecret: k.Secret, SecurityToken: k.Token, ProviderName: s.GetProviderName()}, nil
}

func (source) GetProviderName() string { return "ossuary" }
