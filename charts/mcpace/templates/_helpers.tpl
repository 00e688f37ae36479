{{/* The release's name in the names of what every release has had from the first: they stay, because a volume and
the master key are found by them. */}}
{{- define "mcpace.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of anything else; takes {root, component}. Of the release's name as much as fits beside it. */}}
{{- define "mcpace.componentName" -}}
{{- $name := .root.Values.fullnameOverride | default .root.Release.Name -}}
{{- $name | trunc (sub 62 (len .component) | int) | trimSuffix "-" }}-{{ .component }}
{{- end -}}

{{/* An embedded Redis; takes {root, store}. Its pods bear a label of this, "-", and ten digits: 63 characters. */}}
{{- define "mcpace.redisName" -}}
{{- include "mcpace.name" .root | trunc 39 | trimSuffix "-" }}-redis-{{ .store }}
{{- end -}}

{{/* Fails where a part of the values is missing. What Helm renders first, tests and validate.yaml, asks this. */}}
{{- define "mcpace.whole" -}}
{{- range $path := list "podSecurity.fixedUserIds" "masterKey.existingSecret" "crds.enabled" "rbac.create" "serviceAccount.create" "operator.image" "operator.podDisruptionBudget" "operator.networkPolicy" "sidecar.image" "metrics.serviceMonitor" "metrics.alerts" "metrics.dashboards" "servers.callers" "redis.image" "redis.ca.existingSecret" "redis.podDisruptionBudget" "redis.networkPolicy" "redis.cache.existingSecret" "redis.cache.persistence" "redis.limits.existingSecret" "redis.limits.persistence" "test.image" }}
{{- $place := $.Values }}
{{- range $name := splitList "." $path }}
{{- if kindIs "map" $place }}{{ $place = get $place $name }}{{ else }}{{ $place = "" }}{{ end }}
{{- end }}
{{- if or (kindIs "invalid" $place) (kindIs "string" $place) }}
{{- fail (printf "the value %s is missing: set no value to null, and where --reuse-values brings those of an older chart, upgrade with --reset-then-reuse-values instead" $path) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mcpace.clusterName" -}}
{{ include "mcpace.name" . }}-{{ .Release.Namespace }}
{{- end -}}

{{/* What servers' pods name as their release: a label's value. The operator makes the same of MCPACE_INSTANCE. */}}
{{- define "mcpace.release" -}}
{{ printf "%s.%s" .Release.Namespace .Release.Name | trunc 63 | trimAll "-." }}
{{- end -}}

{{- define "mcpace.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "mcpace.name" .) | quote -}}
{{- end -}}

{{- define "mcpace.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: mcpace
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What selects a component's pods; takes {root, component}. */}}
{{- define "mcpace.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Takes {image, default}; a digest counts before a tag. */}}
{{- define "mcpace.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end -}}
{{- end -}}

{{- define "mcpace.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop:
    - ALL
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* What a container takes that runs for a moment. */}}
{{- define "mcpace.little" -}}
requests:
  cpu: 10m
  memory: 64Mi
limits:
  memory: 128Mi
{{- end -}}

{{/* Where pods go; takes one of the values that say so. */}}
{{- define "mcpace.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* The Secret that holds the master key: the user's, or the one that the operator makes. */}}
{{- define "mcpace.keySecret" -}}
{{ .Values.masterKey.existingSecret.name | default (include "mcpace.name" .) | quote }}
{{- end -}}

{{/* A volume's size in MiB: an API server writes 1024Mi as 1Gi. */}}
{{- define "mcpace.mebibytes" -}}
{{- $number := regexFind "^[0-9]+" . | default "0" | int64 -}}
{{- $unit := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[A-Za-z]+$" .) -}}
{{- if $unit }}{{ mul $number $unit }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* The names of imagePullSecrets. */}}
{{- define "mcpace.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets }}{{ $names = append $names .name }}{{ end -}}
{{ join "," $names }}
{{- end -}}

{{/* Peers that may reach the servers' admin ports. */}}
{{- define "mcpace.watchers" -}}
{{- $operator := dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace)) "podSelector" (dict "matchLabels" (include "mcpace.selector" (dict "root" . "component" "operator") | fromYaml)) -}}
{{ prepend .Values.servers.monitoring $operator | toJson }}
{{- end -}}
