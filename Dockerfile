# syntax=docker/dockerfile:1

# The archive service and its tools in one static binary, on an empty base.
#
#   docker build -t ossuary .
#   docker run --rm ossuary version

FROM golang:1.26 AS build
WORKDIR /src
# The modules are a layer of their own: they change less often than the code.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# .git comes along so that `consumer version` can name the commit. Where it is a worktree's
# pointer, or not there at all, pass --build-arg GOFLAGS=-buildvcs=false.
ARG GOFLAGS=
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/consumer ./cmd/consumer
RUN mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/consumer /consumer
# Only the emulator and the embedded set-up write to /data; an archive with its own NATS and
# OSS keeps nothing on disk. A new volume takes its owner from here.
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME /data
WORKDIR /data
USER 65532:65532
# 8080: health, metrics, status. 9000: the emulator, where it is started.
EXPOSE 8080 9000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/consumer", "health", "--config", "/etc/ossuary/ossuary.yaml"]
# SIGTERM drains: it waits for appends in flight, up to intake.drain_timeout. Give the
# orchestrator's grace period a little more than that.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/consumer"]
CMD ["run", "--config", "/etc/ossuary/ossuary.yaml"]
