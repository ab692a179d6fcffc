{{/* Names, labels, images: what all objects share. */}}

{{- define "swarm.labels" -}}
app.kubernetes.io/name: swarm-learning
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "swarm.selector" -}}
app.kubernetes.io/name: swarm-learning
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "swarm.image" -}}
{{- $tag := .image.tag | default .root.Values.images.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end }}

{{- define "swarm.host" -}}
{{ .root.Release.Name }}-{{ .component }}.{{ .root.Release.Namespace }}.svc
{{- end }}

{{/* The license server of this release, unless another one is named. */}}
{{- define "swarm.licenseHost" -}}
{{- $other := .Values.swarm.licenseServer.host -}}
{{- if $other }}{{ $other }}
{{- else if .Values.licenseServer.enabled }}{{ include "swarm.host" (dict "root" . "component" "license-server") }}
{{- else }}{{ fail "swarm.licenseServer.host is missing: say where the license server is, or let this release run it by licenseServer.enabled=true." }}
{{- end }}
{{- end }}

{{- define "swarm.licensePort" -}}
{{- if .Values.swarm.licenseServer.host }}{{ .Values.swarm.licenseServer.port | int }}
{{- else }}{{ .Values.licenseServer.service.port | int }}
{{- end }}
{{- end }}

{{- define "swarm.snHost" -}}
{{- if .Values.swarm.sn.host }}{{ .Values.swarm.sn.host }}
{{- else if .Values.sn.enabled }}{{ include "swarm.host" (dict "root" . "component" "sn") }}
{{- else }}{{ fail "swarm.sn.host is missing: say which SN the SLs and the SWCI ask, or let this release run one by sn.enabled=true." }}
{{- end }}
{{- end }}

{{- define "swarm.snPort" -}}
{{- if .Values.swarm.sn.host }}{{ .Values.swarm.sn.port | int }}
{{- else }}{{ .Values.sn.announce.apiPort | int }}
{{- end }}
{{- end }}
