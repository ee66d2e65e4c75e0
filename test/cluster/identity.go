package cluster

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// identities makes configurations of users other than the administrator.
type identities interface {
	config(user string, groups []string) (*rest.Config, error)
}

// certificates makes users of our own clusters.
type certificates struct {
	authority *authority
	server    string // URL
}

func (c *certificates) config(user string, groups []string) (*rest.Config, error) {
	p, err := c.authority.user(user, groups)
	if err != nil {
		return nil, err
	}
	return &rest.Config{Host: c.server, QPS: -1, TLSClientConfig: rest.TLSClientConfig{
		CAData: c.authority.pem, CertData: p.certificate, KeyData: p.key,
	}}, nil
}

// impersonation makes users of a cluster whose authority is not ours.
type impersonation struct{ admin *rest.Config }

func (i impersonation) config(user string, groups []string) (*rest.Config, error) {
	config := rest.CopyConfig(i.admin)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
	return config, nil
}

// writeKubeconfig writes a file that needs no other file.
func writeKubeconfig(file, name string, config *rest.Config) error {
	config = rest.CopyConfig(config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	k := api.NewConfig()
	k.CurrentContext = name
	k.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	k.Clusters[name] = &api.Cluster{
		Server: config.Host, CertificateAuthorityData: config.CAData,
		InsecureSkipTLSVerify: config.Insecure, TLSServerName: config.ServerName,
	}
	k.AuthInfos[name] = &api.AuthInfo{
		ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
		Username: config.Username, Password: config.Password, Exec: config.ExecProvider,
		Impersonate: config.Impersonate.UserName, ImpersonateGroups: config.Impersonate.Groups,
	}
	if err := clientcmd.WriteToFile(*k, file); err != nil {
		return fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	return nil
}

func requestToken(ctx context.Context, client kubernetes.Interface, namespace, name string) (string, error) {
	day := int64(24 * 60 * 60)
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &day}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}
