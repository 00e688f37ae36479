{{- define "mcpace.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "mcpace.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: mcpace
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mcpace.image" -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end -}}

{{- define "mcpace.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The Secret and key that hold a store's URL: the user's, or ours. Takes {root, store, own}. */}}
{{- define "mcpace.storeUrl" -}}
{{- if .store.existingSecret.name -}}
{name: {{ .store.existingSecret.name | quote }}, key: {{ .store.existingSecret.key | quote }}}
{{- else -}}
{name: {{ include "mcpace.name" .root }}, key: {{ .own }}}
{{- end -}}
{{- end -}}
