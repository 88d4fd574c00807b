{{/* Names, labels, and what several objects ask. */}}

{{- define "hallway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* At most 50 letters, so that what is added to it stays within the 63 of a label. */}}
{{- define "hallway.fullname" -}}
{{- $name := include "hallway.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "hallway.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "hallway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image from the registry that all charts are given, or from its own; a repository that names its registry keeps it. */}}
{{- define "hallway.withRegistry" -}}
{{- $first := first (splitList "/" .repository) }}
{{- $named := and (contains "/" .repository) (or (regexMatch "[.:]" $first) (eq $first "localhost")) }}
{{- $registry := get (.root.Values.global | default dict) "imageRegistry" | default .registry }}
{{- if and $registry (not $named) }}{{ trimSuffix "/" $registry }}/{{ end }}{{ .repository }}
{{- end }}

{{- define "hallway.image" -}}
{{- with .Values.image }}
{{- include "hallway.withRegistry" (dict "root" $ "registry" .registry "repository" .repository) }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{/* Those of all charts and its own, by name or as objects. */}}
{{- define "hallway.pullSecrets" -}}
{{- $names := list }}
{{- range concat (get (.Values.global | default dict) "imagePullSecrets" | default list) .Values.imagePullSecrets }}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end }}
{{- end }}
{{- with uniq $names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A table without the keys that were taken out with null or an empty text, such as the user of a cluster that gives pods
one of its own. */}}
{{- define "hallway.given" -}}
{{- $given := dict }}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}{{ $_ := set $given $key (include "hallway.given" $value | fromYaml) }}
{{- else if not (or (kindIs "invalid" $value) (eq "" (toString $value))) }}{{ $_ := set $given $key $value }}
{{- end }}
{{- end }}
{{- toYaml $given }}
{{- end }}

{{- define "hallway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: {{ include "hallway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What tells the nodes from everything else; a selector cannot be changed later. */}}
{{- define "hallway.selector" -}}
app.kubernetes.io/name: {{ include "hallway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{/* What tells the pod of `helm test`. */}}
{{- define "hallway.testSelector" -}}
app.kubernetes.io/name: {{ include "hallway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{/* The address families of a Service. */}}
{{- define "hallway.families" -}}
{{- with .Values.service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
  ipFamilies: {{ toJson . }}
{{- end }}
{{- end }}

{{/* The names in extraEnv, as a list in JSON. */}}
{{- define "hallway.extraNames" -}}
{{- $names := list }}
{{- range .Values.extraEnv }}{{ $names = append $names .name }}{{ end }}
{{- toJson $names }}
{{- end }}

{{/* Not empty if something in sight gives the nodes a Redis to share. */}}
{{- define "hallway.redisInSight" -}}
{{- $names := include "hallway.extraNames" . | fromJsonArray }}
{{- $file := get (get (.Values.config | fromToml) "redis" | default dict) "url_file" }}
{{- if or .Values.redis.url .Values.redis.existingSecret $file (has "HALLWAY_REDIS__URL" $names) (has "HALLWAY_REDIS__URL_FILE" $names) }}yes{{ end }}
{{- end }}

{{/* Not empty if the nodes share a Redis; what is in extraEnvFrom cannot be seen, and is believed to be one. */}}
{{- define "hallway.redis" -}}
{{- if or (include "hallway.redisInSight" .) .Values.extraEnvFrom }}yes{{ end }}
{{- end }}

{{/* Not empty if something else sets the number of nodes. */}}
{{- define "hallway.scaled" -}}
{{- if or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicas) (eq "" (toString .Values.replicas)) }}yes{{ end }}
{{- end }}

{{/* Not empty if there may be more than one node. */}}
{{- define "hallway.several" -}}
{{- if or (include "hallway.scaled" .) (gt (int .Values.replicas) 1) }}yes{{ end }}
{{- end }}

{{/* The number of nodes; nothing where something else sets it. Kubernetes reads a number that is taken away as 1, and
would stop all nodes but one before an autoscaler raises it again: so the number that runs is stated, if it can be asked. */}}
{{- define "hallway.replicas" -}}
{{- if not (include "hallway.scaled" .) }}{{ .Values.replicas }}
{{- else }}
{{- with lookup "apps/v1" "Deployment" .Release.Namespace (include "hallway.fullname" .) }}
{{- max (int .spec.replicas) (ternary (int $.Values.autoscaling.minReplicas) 0 $.Values.autoscaling.enabled) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty if there is a key for /v1. */}}
{{- define "hallway.apiKeys" -}}
{{- $api := get (.Values.config | fromToml) "api" | default dict }}
{{- $named := regexMatch "HALLWAY_API__KEY" (include "hallway.extraNames" .) }}
{{- if or .Values.api.existingSecret .Values.api.key .Values.api.keys $named (get $api "key_file") (get $api "keys") }}yes{{ end }}
{{- end }}

{{/* Not empty if a Secret is made of values. */}}
{{- define "hallway.ownSecret" -}}
{{- if or .Values.auth.hs256Secret .Values.api.key .Values.redis.url }}yes{{ end }}
{{- end }}

{{/* The seconds of a duration such as 1500ms, 10s or 2m, rounded up. */}}
{{- define "hallway.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- if eq $unit "ms" }}{{ div (add $number 999) 1000 }}
{{- else }}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit) }}
{{- end }}
{{- end }}

{{- define "hallway.graceSeconds" -}}
{{- with .Values.shutdown -}}
{{ add (include "hallway.seconds" .drain) (include "hallway.seconds" .reconnectSpread) (int .preStopSeconds) (int .marginSeconds) }}
{{- end }}
{{- end }}

{{/* The port of an HTTP URL; empty where it is none. */}}
{{- define "hallway.port" -}}
{{- if regexMatch "^https?://[^/]" . }}
{{- $url := urlParse . }}
{{- with regexFind ":[0-9]+$" $url.host }}{{ trimPrefix ":" . }}{{ else }}{{ ternary 443 80 (eq $url.scheme "https") }}{{ end }}
{{- end }}
{{- end }}

{{/* The port of Redis: what is set, else that of the URL, if it can be read. */}}
{{- define "hallway.redisPort" -}}
{{- $url := .Values.redis.url }}
{{- range .Values.extraEnv }}
{{- if and (eq .name "HALLWAY_REDIS__URL") (get . "value") }}{{ $url = .value }}{{ end }}
{{- end }}
{{- $place := regexReplaceAll "^rediss?://(.*@)?" $url "" }}
{{- $port := regexFind "^(\\[[^]]*\\]|[^][:/?#]*):[0-9]+" $place | regexFind "[0-9]+$" }}
{{- .Values.networkPolicy.redisPort | default $port | default 6379 }}
{{- end }}

{{/* The files that are mounted from Secrets: path below the folder of secrets, Secret, and key in it. */}}
{{- define "hallway.secretFiles" -}}
{{- range $index, $each := .Values.auth.moreSecrets }}
- {path: hs256/{{ $index }}, secret: {{ $each.existingSecret | quote }}, key: {{ $each.existingSecretKey | default "hs256-secret" | quote }}}
{{- end }}
{{- range $name, $each := .Values.api.keys }}
- {path: api/{{ $name }}, secret: {{ $each.existingSecret | quote }}, key: {{ $each.existingSecretKey | default "api-key" | quote }}}
{{- end }}
{{- with .Values.authorizer }}
{{- if .existingSecret }}
- {path: authorizer, secret: {{ .existingSecret | quote }}, key: {{ .existingSecretKey | quote }}}
{{- end }}
{{- end }}
{{- with .Values.redis.tls }}
{{- range $path, $key := dict "ca" .ca "cert" .clientCert "key" .clientKey }}
{{- if and $.Values.redis.tls.existingSecret $key }}
- {path: redis/{{ $path }}, secret: {{ $.Values.redis.tls.existingSecret | quote }}, key: {{ $key | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A variable from an existing Secret, or from the one that is made. */}}
{{- define "hallway.secretVariable" -}}
{{- $from := .from }}
{{- if or $from.existingSecret .inline }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ default (include "hallway.fullname" .root) $from.existingSecret }}
      key: {{ ternary $from.existingSecretKey .key (ne "" $from.existingSecret) }}
{{- end }}
{{- end }}
