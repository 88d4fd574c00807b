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

{{- define "hallway.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
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

{{/* Not empty if the nodes share a Redis. */}}
{{- define "hallway.redis" -}}
{{- if or .Values.redis.url .Values.redis.existingSecret }}yes{{ end }}
{{- end }}

{{/* Not empty if there may be more than one node. */}}
{{- define "hallway.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}yes{{ end }}
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
