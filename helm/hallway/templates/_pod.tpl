{{/* The pod of a node. */}}
{{- define "hallway.pod" -}}
serviceAccountName: {{ include "hallway.serviceAccount" . }}
automountServiceAccountToken: false
# A Service named hallway would otherwise put variables beginning with HALLWAY_ into the pod.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "hallway.graceSeconds" . }}
{{- include "hallway.pullSecrets" . }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "hallway.given" .Values.podSecurityContext | nindent 2 }}
{{- with .Values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: hallway
    image: {{ include "hallway.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args: [serve, --config, /etc/hallway/hallway.toml]
    securityContext:
      {{- include "hallway.given" .Values.securityContext | nindent 6 }}
    ports:
      - name: client
        containerPort: {{ .Values.ports.client }}
      {{- if .Values.api.ownListener }}
      - name: api
        containerPort: {{ .Values.ports.api }}
      {{- end }}
      - name: admin
        containerPort: {{ .Values.ports.admin }}
    env:
      {{- include "hallway.variables" . | nindent 6 }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    # A node whose Redis is out of reach lives and is not ready: a restart would only cut its clients off.
    startupProbe:
      httpGet: {path: /livez, port: admin}
      {{- include "hallway.given" .Values.probes.startup | nindent 6 }}
    livenessProbe:
      httpGet: {path: /livez, port: admin}
      {{- include "hallway.given" .Values.probes.liveness | nindent 6 }}
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      {{- include "hallway.given" .Values.probes.readiness | nindent 6 }}
    {{- if int .Values.shutdown.preStopSeconds }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ .Values.shutdown.preStopSeconds }}
    {{- end }}
    resources:
      {{- include "hallway.given" .Values.resources | nindent 6 }}
    volumeMounts:
      - name: config
        mountPath: /etc/hallway
        readOnly: true
      {{- if include "hallway.secretFiles" . }}
      - name: secrets
        mountPath: /run/secrets/hallway
        readOnly: true
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "hallway.fullname" . }}
  {{- with include "hallway.secretFiles" . | fromYamlArray }}
  - name: secrets
    projected:
      sources:
        {{- range . }}
        - secret:
            name: {{ .secret | quote }}
            items:
              - {key: {{ .key | quote }}, path: {{ .path }}}
        {{- end }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "hallway.spread" . }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* hallway.toml: what the values say, and the keys that no variable can name. */}}
{{- define "hallway.toml" -}}
{{ .Values.config }}
{{- range $name, $each := .Values.api.keys }}

[api.keys.{{ $name }}]
key_file = "/run/secrets/hallway/api/{{ $name }}"
scopes = {{ toJson $each.scopes }}
{{- with $each.rate }}
rate = {{ int . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What goes over hallway.toml. */}}
{{- define "hallway.variables" -}}
{{- include "hallway.ownVariables" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Those of them that the chart sets itself. */}}
{{- define "hallway.ownVariables" -}}
- name: HALLWAY_SERVER__LISTEN
  value: "{{ .Values.listenAddress }}:{{ .Values.ports.client }}"
- name: HALLWAY_ADMIN__LISTEN
  value: "{{ .Values.listenAddress }}:{{ .Values.ports.admin }}"
{{- if .Values.api.ownListener }}
- name: HALLWAY_API__LISTEN
  value: "{{ .Values.listenAddress }}:{{ .Values.ports.api }}"
{{- end }}
- name: HALLWAY_SHUTDOWN__DRAIN
  value: {{ .Values.shutdown.drain }}
- name: HALLWAY_SHUTDOWN__RECONNECT_SPREAD
  value: {{ .Values.shutdown.reconnectSpread }}
{{- with .Values.auth.publicKeys }}
{{- $files := list }}
{{- range $name, $_ := . }}{{ $files = append $files (print "/etc/hallway/" $name) }}{{ end }}
- name: HALLWAY_AUTH__PUBLIC_KEY_FILE
  value: {{ join "," $files }}
{{- end }}
{{- with .Values.auth.moreSecrets }}
{{- $files := list }}
{{- range $index, $_ := . }}{{ $files = append $files (printf "/run/secrets/hallway/hs256/%d" $index) }}{{ end }}
- name: HALLWAY_AUTH__HS256_SECRET_FILE
  value: {{ join "," $files }}
{{- end }}
{{- if .Values.authorizer.existingSecret }}
- name: HALLWAY_AUTHORIZER__SECRET_FILE
  value: /run/secrets/hallway/authorizer
{{- end }}
{{- include "hallway.secretVariable" (dict "root" . "from" .Values.auth "inline" .Values.auth.hs256Secret "name" "HALLWAY_AUTH__HS256_SECRET" "key" "hs256-secret") }}
{{- include "hallway.secretVariable" (dict "root" . "from" .Values.api "inline" .Values.api.key "name" "HALLWAY_API__KEY" "key" "api-key") }}
{{- $url := ternary (dict "existingSecret" "") .Values.redis (ne "" .Values.redis.url) }}
{{- include "hallway.secretVariable" (dict "root" . "from" $url "inline" .Values.redis.url "name" "HALLWAY_REDIS__URL" "key" "redis-url") }}
{{- with .Values.redis }}
{{- with .username }}
- name: HALLWAY_REDIS__USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if .existingSecretPasswordKey }}
{{- $password := dict "existingSecret" .existingSecret "existingSecretKey" .existingSecretPasswordKey }}
{{- include "hallway.secretVariable" (dict "root" $ "from" $password "inline" "" "name" "HALLWAY_REDIS__PASSWORD" "key" "") }}
{{- end }}
{{- if .tls.existingSecret }}
{{- if .tls.ca }}
- name: HALLWAY_REDIS__CA_FILE
  value: /run/secrets/hallway/redis/ca
{{- end }}
{{- if .tls.clientCert }}
- name: HALLWAY_REDIS__CLIENT_CERT_FILE
  value: /run/secrets/hallway/redis/cert
- name: HALLWAY_REDIS__CLIENT_KEY_FILE
  value: /run/secrets/hallway/redis/key
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Over machines and zones, unless the values say otherwise. */}}
{{- define "hallway.spread" -}}
{{- if not (kindIs "invalid" .Values.topologySpreadConstraints) }}
{{- with .Values.topologySpreadConstraints }}{{ toYaml . }}{{ end }}
{{- else if include "hallway.several" . }}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hallway.selector" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end }}
