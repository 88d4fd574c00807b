{{/* What the schema cannot say: every contradiction of the values, all at once, each with what mends it. */}}
{{- define "hallway.check" -}}
{{- $wrong := list }}
{{- $config := .Values.config | fromToml }}
{{- if hasKey $config "Error" }}
{{- $wrong = append $wrong (printf "config is no TOML: %s." (get $config "Error")) }}
{{- $config = dict }}
{{- end }}

{{- if not (include "hallway.redis" .) }}
{{- if .Values.autoscaling.enabled }}
{{- $wrong = append $wrong "autoscaling needs Redis: without it each node keeps its rooms in its own memory, and clients on different nodes would not hear each other. Set redis.existingSecret or redis.url, or autoscaling.enabled=false." }}
{{- else if gt (int .Values.replicas) 1 }}
{{- $wrong = append $wrong (printf "%d replicas need Redis: without it each node keeps its rooms in its own memory, and clients on different nodes would not hear each other. Set redis.existingSecret or redis.url, or replicas=1." (int .Values.replicas)) }}
{{- end }}
{{- end }}

{{- $keys := list }}
{{- range $key, $_ := get $config "auth" | default dict }}
{{- if regexMatch "secret|key|jwks" $key }}{{ $keys = append $keys $key }}{{ end }}
{{- end }}
{{- with .Values.auth }}
{{- if not (or .existingSecret .hs256Secret .moreSecrets .publicKeys $keys) }}
{{- $wrong = append $wrong "no token could be believed: set auth.existingSecret (the name of a Secret with the key hs256-secret), auth.hs256Secret, auth.publicKeys, or jwks_url under [auth] in config." }}
{{- end }}
{{- end }}
{{- range $pair := list (list "auth" "hs256Secret") (list "api" "key") (list "redis" "url") }}
{{- $section := get $.Values (first $pair) }}
{{- if and $section.existingSecret (get $section (last $pair)) }}
{{- $wrong = append $wrong (printf "%s.existingSecret and %s.%s are both set: keep one." (first $pair) (first $pair) (last $pair)) }}
{{- end }}
{{- end }}

{{- $owned := dict
  "server.listen" "ports.client" "admin.listen" "ports.admin" "api.listen" "api.ownListener and ports.api"
  "api.key" "api.existingSecret" "redis.url" "redis.existingSecret or redis.url" "auth.hs256_secret" "auth.existingSecret"
  "auth.public_key_file" "auth.publicKeys" "authorizer.secret" "authorizer.existingSecret"
  "authorizer.secret_file" "authorizer.existingSecret" "shutdown.drain" "shutdown.drain" "shutdown.reconnect_spread" "shutdown.reconnectSpread" }}
{{- $names := list }}
{{- range .Values.extraEnv }}{{ $names = append $names .name }}{{ end }}
{{- range $path, $value := $owned }}
{{- $part := splitList "." $path }}
{{- if hasKey (get $config (first $part) | default dict) (last $part) }}
{{- $wrong = append $wrong (printf "config must not set %s under [%s]: the chart does, from the value %s." (last $part) (first $part) $value) }}
{{- end }}
{{- $variable := printf "HALLWAY_%s" ($path | replace "." "__" | upper) }}
{{- if has $variable $names }}
{{- $wrong = append $wrong (printf "extraEnv must not set %s: the chart does, from the value %s." $variable $value) }}
{{- end }}
{{- end }}

{{- with get (get $config "api" | default dict) "keys" }}
{{- if $.Values.api.keys }}
{{- $wrong = append $wrong "config has [api.keys] and the value api.keys is set too: keep one." }}
{{- end }}
{{- end }}
{{- if and .Values.auth.moreSecrets (hasKey (get $config "auth" | default dict) "hs256_secret_file") }}
{{- $wrong = append $wrong "config sets hs256_secret_file under [auth] and the value auth.moreSecrets is set too: keep one." }}
{{- end }}
{{- range $part := list (list "api" "key_file" "key") (list "redis" "url_file" "url") }}
{{- $section := get $.Values (first $part) }}
{{- if and (hasKey (get $config (first $part) | default dict) (index $part 1)) (or $section.existingSecret (get $section (last $part))) }}
{{- $wrong = append $wrong (printf "config sets %s under [%s], and the chart sets the same from the value %s.existingSecret or %s.%s: keep one." (index $part 1) (first $part) (first $part) (first $part) (last $part)) }}
{{- end }}
{{- end }}
{{- $url := get (get $config "authorizer" | default dict) "url" }}
{{- if and .Values.authorizer.existingSecret (not (or $url (has "HALLWAY_AUTHORIZER__URL" $names))) }}
{{- $wrong = append $wrong "authorizer.existingSecret is a secret for nobody: set url under [authorizer] in config." }}
{{- end }}
{{- if .Values.networkPolicy.enabled }}
{{- range $pair := list (list "HALLWAY_AUTH__JWKS_URL" "jwks_url" "auth") (list "HALLWAY_AUTHORIZER__URL" "url" "authorizer") }}
{{- if has (first $pair) $names }}
{{- $wrong = append $wrong (printf "networkPolicy lets the nodes reach what config names: set %s under [%s] there, in the place of %s in extraEnv." (index $pair 1) (last $pair) (first $pair)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $proxied := or .Values.ingress.enabled .Values.httpRoute.enabled }}
{{- $per_ip := or (has "HALLWAY_LIMITS__CONNECTIONS_PER_IP" $names) (hasKey (get $config "limits" | default dict) "connections_per_ip") }}
{{- $trusted := or (has "HALLWAY_SERVER__TRUSTED_PROXIES" $names) (get (get $config "server" | default dict) "trusted_proxies") }}
{{- if and $proxied $per_ip (not $trusted) }}
{{- $wrong = append $wrong "connections_per_ip counts by address, and all clients would have that of the proxy: set trusted_proxies under [server] in config." }}
{{- end }}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") }}
{{- $wrong = append $wrong "service.externalTrafficPolicy is for NodePort and LoadBalancer: set service.type, or leave it out." }}
{{- end }}

{{- $ports := list (int .Values.ports.client) (int .Values.ports.admin) }}
{{- if .Values.api.ownListener }}{{ $ports = append $ports (int .Values.ports.api) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- $wrong = append $wrong "two listeners have one port: give each of ports.client, ports.api and ports.admin its own." }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- $wrong = append $wrong (printf "autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d)." (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- if and .enabled (not (or (int .cpuPercent) (int .socketsPerPod))) }}
{{- $wrong = append $wrong "autoscaling has nothing to go by: set autoscaling.cpuPercent or autoscaling.socketsPerPod." }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- $wrong = append $wrong "the Ingress has no host: set ingress.hosts." }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "the HTTPRoute has no Gateway: set httpRoute.parentRefs." }}
{{- end }}
{{- if and .Values.api.ownListener (not (or .Values.api.key .Values.api.existingSecret .Values.api.keys (get $config "api"))) }}
{{- $wrong = append $wrong "api.ownListener opens a port where nothing answers without a key: set api.existingSecret, api.keys or api.key." }}
{{- end }}

{{- if $wrong }}
{{- fail (printf "\n\nThe values do not fit together:\n- %s\n" (join "\n- " $wrong)) }}
{{- end }}
{{- end }}
