{{/* What the schema cannot say: every contradiction of the values, all at once, each with what mends it. */}}
{{- define "hallway.check" -}}
{{- $config := .Values.config | fromToml }}
{{- $told := "" }}
{{- if hasKey $config "Error" }}
{{- $told = printf "\n- config is no TOML: %s.\n" (get $config "Error") }}
{{- $config = dict }}
{{- end }}
{{- $given := dict "root" . "Values" .Values "Release" .Release "Chart" .Chart "config" $config "names" (include "hallway.extraNames" . | fromJsonArray) }}
{{- range $part := list "redis" "auth" "owned" "network" "nodes" "metrics" }}
{{- $told = print $told (include (print "hallway.check." $part) $given) }}
{{- end }}
{{- if $told }}
{{- fail (printf "\n\nThe values do not fit together:%s" (regexReplaceAll "\n\n+" $told "\n")) }}
{{- end }}
{{- end }}

{{- define "hallway.check.redis" -}}
{{- if not (include "hallway.redis" .root) }}
{{- $why := "without it each node keeps its rooms in its own memory, and clients on different nodes would not hear each other" }}
{{- if .Values.autoscaling.enabled }}
- autoscaling needs Redis: {{ $why }}. Set redis.existingSecret or redis.url, or autoscaling.enabled=false.
{{ else if include "hallway.scaled" .root }}
- nodes that something else counts (replicas=null) need Redis: {{ $why }}. Set redis.existingSecret or redis.url, or replicas=1.
{{ else if gt (int .Values.replicas) 1 }}
- {{ .Values.replicas }} replicas need Redis: {{ $why }}. Set redis.existingSecret or redis.url, or replicas=1.
{{ end }}
{{- end }}
{{- with .Values.redis }}
{{- if and .existingSecret .url (not .existingSecretPasswordKey) }}
- redis.existingSecret and redis.url are both set: keep one, or name the key of the password alone in redis.existingSecretPasswordKey.
{{ end }}
{{- if and .existingSecretPasswordKey (not .existingSecret) }}
- redis.existingSecretPasswordKey is a key of no Secret: set redis.existingSecret.
{{ end }}
{{- if and .existingSecretPasswordKey (regexMatch "^rediss?://[^/@]*:[^/@]+@" .url) }}
- redis.url has a password and redis.existingSecretPasswordKey names another: take it out of the URL.
{{ end }}
{{- if and .username (regexMatch "^rediss?://[^/@:]+(:[^/@]*)?@" .url) }}
- redis.url names a user and redis.username another: keep one.
{{ end }}
{{- $password := or (has "HALLWAY_REDIS__PASSWORD" $.names) (has "HALLWAY_REDIS__PASSWORD_FILE" $.names) (get (get $.config "redis" | default dict) "password_file") }}
{{- if and .username (not (or .existingSecretPasswordKey $password $.Values.extraEnvFrom)) }}
- redis.username needs a password: set redis.existingSecret and redis.existingSecretPasswordKey.
{{ end }}
{{- if and .tls.existingSecret (regexMatch "^redis://" .url) }}
- redis.tls is of no use to a redis:// URL: write rediss:// in redis.url.
{{ end }}
{{- if and .tls.existingSecret (not (or .tls.ca .tls.clientCert)) }}
- redis.tls.existingSecret has nothing to give: name keys of it in redis.tls.ca, or in redis.tls.clientCert and redis.tls.clientKey.
{{ end }}
{{- if ne (empty .tls.clientCert) (empty .tls.clientKey) }}
- a client certificate needs its key: set both redis.tls.clientCert and redis.tls.clientKey, or neither.
{{ end }}
{{- if and (or .tls.clientCert .tls.clientKey) (not .tls.existingSecret) }}
- redis.tls.clientCert and redis.tls.clientKey are keys of no Secret: set redis.tls.existingSecret.
{{ end }}
{{- end }}
{{- end }}

{{- define "hallway.check.auth" -}}
{{- $known := list }}
{{- range $key, $_ := get .config "auth" | default dict }}
{{- if regexMatch "secret|key|jwks" $key }}{{ $known = append $known $key }}{{ end }}
{{- end }}
{{- range .names }}
{{- if regexMatch "^HALLWAY_AUTH__.*(SECRET|KEY|JWKS)" . }}{{ $known = append $known . }}{{ end }}
{{- end }}
{{- with .Values.auth }}
{{- if not (or .existingSecret .hs256Secret .moreSecrets .publicKeys $known $.Values.extraEnvFrom) }}
- no token could be believed: set auth.existingSecret (the name of a Secret with the key hs256-secret), auth.hs256Secret, auth.publicKeys, or jwks_url under [auth] in config.
{{ end }}
{{- end }}
{{- range $pair := list (list "auth" "hs256Secret") (list "api" "key") }}
{{- $section := get $.Values (first $pair) }}
{{- if and $section.existingSecret (get $section (last $pair)) }}
- {{ first $pair }}.existingSecret and {{ first $pair }}.{{ last $pair }} are both set: keep one.
{{ end }}
{{- end }}
{{- if and .Values.auth.moreSecrets (hasKey (get .config "auth" | default dict) "hs256_secret_file") }}
- config sets hs256_secret_file under [auth] and the value auth.moreSecrets is set too: keep one.
{{ end }}
{{- $url := get (get .config "authorizer" | default dict) "url" }}
{{- if and .Values.authorizer.existingSecret (not (or $url .Values.extraEnvFrom (has "HALLWAY_AUTHORIZER__URL" .names))) }}
- authorizer.existingSecret is a secret for nobody: set url under [authorizer] in config.
{{ end }}
{{- if and (get (get .config "api" | default dict) "keys") .Values.api.keys }}
- config has [api.keys] and the value api.keys is set too: keep one.
{{ end }}
{{- if and .Values.api.ownListener (not (or (include "hallway.apiKeys" .root) .Values.extraEnvFrom)) }}
- api.ownListener opens a port where nothing answers without a key: set api.existingSecret, api.keys or api.key.
{{ end }}
{{- end }}

{{/* What has a value of its own is set by that value alone. A secret is never in config, which is a ConfigMap; a variable
of extraEnv may take the place of a value that is not set. */}}
{{- define "hallway.check.owned" -}}
{{- $owned := dict
  "server.listen" "listenAddress and ports.client" "admin.listen" "listenAddress and ports.admin"
  "api.listen" "api.ownListener and ports.api" "api.key" "api.existingSecret"
  "redis.url" "redis.existingSecret or redis.url" "redis.password" "redis.existingSecretPasswordKey"
  "auth.hs256_secret" "auth.existingSecret" "auth.public_key_file" "auth.publicKeys"
  "authorizer.secret" "authorizer.existingSecret" "authorizer.secret_file" "authorizer.existingSecret"
  "shutdown.drain" "shutdown.drain" "shutdown.reconnect_spread" "shutdown.reconnectSpread" }}
{{- $set := list "HALLWAY_API__LISTEN" }}
{{- range include "hallway.ownVariables" .root | fromYamlArray }}{{ $set = append $set .name }}{{ end }}
{{- range $path, $value := $owned }}
{{- $part := splitList "." $path }}
{{- if hasKey (get $.config (first $part) | default dict) (last $part) }}
- config must not set {{ last $part }} under [{{ first $part }}]: the chart does, from the value {{ $value }}.
{{ end }}
{{- end }}
{{- range .names }}
{{- if has . $set }}
{{- $path := trimPrefix "HALLWAY_" . | lower | replace "__" "." }}
- extraEnv must not set {{ . }}: the chart does{{ with get $owned $path }}, from the value {{ . }}{{ end }}.
{{ end }}
{{- end }}
{{- range $each := list
  (list "api" "key_file" "HALLWAY_API__KEY" "api.existingSecret or api.key")
  (list "redis" "url_file" "HALLWAY_REDIS__URL" "redis.existingSecret or redis.url")
  (list "redis" "username" "HALLWAY_REDIS__USERNAME" "redis.username")
  (list "redis" "password_file" "HALLWAY_REDIS__PASSWORD" "redis.existingSecretPasswordKey")
  (list "redis" "ca_file" "HALLWAY_REDIS__CA_FILE" "redis.tls.ca")
  (list "redis" "client_cert_file" "HALLWAY_REDIS__CLIENT_CERT_FILE" "redis.tls.clientCert")
  (list "redis" "client_key_file" "HALLWAY_REDIS__CLIENT_KEY_FILE" "redis.tls.clientKey") }}
{{- $variable := printf "HALLWAY_%s__%s" (index $each 0) (index $each 1) | upper }}
{{- if has (index $each 2) $set }}
{{- if hasKey (get $.config (index $each 0) | default dict) (index $each 1) }}
- config sets {{ index $each 1 }} under [{{ index $each 0 }}], and the chart sets the same from the value {{ index $each 3 }}: keep one.
{{ end }}
{{- if and (has $variable $.names) (ne $variable (index $each 2)) }}
- extraEnv sets {{ $variable }}, and the chart sets the same from the value {{ index $each 3 }}: keep one.
{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "hallway.check.network" -}}
{{- if .Values.networkPolicy.enabled }}
{{- range $pair := list (list "HALLWAY_AUTH__JWKS_URL" "jwks_url" "auth") (list "HALLWAY_AUTHORIZER__URL" "url" "authorizer") }}
{{- if has (first $pair) $.names }}
- networkPolicy lets the nodes reach what config names: set {{ index $pair 1 }} under [{{ last $pair }}] there, in the place of {{ first $pair }} in extraEnv.
{{ end }}
{{- end }}
{{- end }}
{{- $proxied := or .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- $per_ip := or (has "HALLWAY_LIMITS__CONNECTIONS_PER_IP" .names) (hasKey (get .config "limits" | default dict) "connections_per_ip") }}
{{- $trusted := or (has "HALLWAY_SERVER__TRUSTED_PROXIES" .names) (get (get .config "server" | default dict) "trusted_proxies") }}
{{- if and $proxied $per_ip (not $trusted) }}
- connections_per_ip counts by address, and all clients would have that of the proxy: set trusted_proxies under [server] in config.
{{ end }}
{{- with .Values.service }}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") }}
- service.externalTrafficPolicy is for NodePort and LoadBalancer: set service.type, or leave it out.
{{ end }}
{{- if and (or .loadBalancerClass .loadBalancerSourceRanges) (ne .type "LoadBalancer") }}
- service.loadBalancerClass and service.loadBalancerSourceRanges are for a LoadBalancer: set service.type, or leave them out.
{{ end }}
{{- if and (gt (len .ipFamilies) 1) (not (has .ipFamilyPolicy (list "PreferDualStack" "RequireDualStack"))) }}
- two service.ipFamilies need both: set service.ipFamilyPolicy to PreferDualStack or RequireDualStack.
{{ end }}
{{- if and (has "IPv6" .ipFamilies) (eq $.Values.listenAddress "0.0.0.0") }}
- service.ipFamilies has IPv6, and nodes at 0.0.0.0 do not hear it: set listenAddress to [::].
{{ end }}
{{- end }}
{{- $ports := list (int .Values.ports.client) (int .Values.ports.admin) }}
{{- if .Values.api.ownListener }}{{ $ports = append $ports (int .Values.ports.api) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
- two listeners have one port: give each of ports.client, ports.api and ports.admin its own.
{{ end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- the Ingress has no host: set ingress.hosts.
{{ end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- the HTTPRoute has no Gateway: set httpRoute.parentRefs.
{{ end }}
{{- end }}

{{- define "hallway.check.nodes" -}}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
- autoscaling.minReplicas ({{ .minReplicas }}) is above autoscaling.maxReplicas ({{ .maxReplicas }}).
{{ end }}
{{- if and .enabled (not (or (int .cpuPercent) (int .socketsPerPod) .extraMetrics)) }}
- autoscaling has nothing to go by: set autoscaling.cpuPercent, autoscaling.socketsPerPod or autoscaling.extraMetrics.
{{ end }}
{{- end }}
{{- $least := ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled }}
{{- $kept := toString .Values.podDisruptionBudget.minAvailable }}
{{- if and .Values.podDisruptionBudget.enabled (include "hallway.several" .root) (regexMatch "^[0-9]+$" (toString $least)) (regexMatch "^[0-9]+$" $kept) }}
{{- if and (gt (int $least) 1) (ge (int $kept) (int $least)) }}
- podDisruptionBudget.minAvailable ({{ $kept }}) lets no node of {{ $least }} go, and a machine could not be drained: set it lower.
{{ end }}
{{- end }}
{{- if and .Values.strategy (not (include "hallway.redis" .root)) (ne (get .Values.strategy "type") "Recreate") }}
- strategy must be Recreate without Redis: two nodes that do not share one do not hear each other.
{{ end }}
{{- end }}

{{- define "hallway.check.metrics" -}}
{{- $names := list }}
{{- range regexFindAll "[0-9.]+ # [A-Za-z]+" (.root.Files.Get "files/alerts.yaml") -1 }}
{{- $names = append $names (regexFind "[A-Za-z]+$" .) }}
{{- end }}
{{- range $name, $_ := .Values.metrics.prometheusRule.thresholds }}
{{- if not (has $name $names) }}
- metrics.prometheusRule.thresholds.{{ $name }} is the name of no threshold: there are {{ join ", " (sortAlpha (uniq $names)) }}.
{{ end }}
{{- end }}
{{- end }}
