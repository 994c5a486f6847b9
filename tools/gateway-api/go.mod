// No Go code: tools/install.sh downloads the releases that go.sum names, for their CRDs; go.sum says what they must contain.
module apisix-etcd-controller/tools/gateway-api

go 1.26
