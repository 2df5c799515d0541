{{- define "ambit.image" -}}
{{ required "hub is not set: no images are published. Push your own (make images IMAGES=\"--push --hub HOST/PATH --tag TAG\") and set hub=HOST/PATH and tag=TAG" .root.Values.hub }}/{{ .name }}:{{ .root.Values.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "ambit.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* What pods of the mesh itself have in common: they are never in the mesh, and nothing but their image is needed. */}}
{{- define "ambit.podLabels" -}}
app: {{ .name }}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: ambit
istio.io/dataplane-mode: none
{{- end }}

{{- define "ambit.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ambit.rootNamespace" -}}
{{ .Values.mesh.rootNamespace | default "istio-system" }}
{{- end }}

{{/* The paths of all values in a map, a line each. */}}
{{- define "ambit.leaves" -}}
{{- range $key, $value := .in }}
{{- if and (kindIs "map" $value) $value }}
{{- include "ambit.leaves" (dict "in" $value "at" (printf "%s%s." $.at $key)) }}
{{- else }}
{{- $.at }}{{ $key }}{{ "\n" }}
{{- end }}
{{- end }}
{{- end }}
