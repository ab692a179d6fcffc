{{/* What pods and containers share: who they are, what they may not do, how they are asked whether they work. */}}

{{- define "swarm.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .root.Values.user | int }}
  runAsGroup: {{ .root.Values.group | int }}
  fsGroup: {{ .root.Values.group | int }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .node.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .node.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .node.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "swarm.contained" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The images' own health check: a file that the node's event loop touches. */}}
{{- define "swarm.check" -}}
exec:
  command: ["sh", "-c", "test -n \"$(find $SWARM_HEALTH_FILE -newermt '-10 seconds')\""]
timeoutSeconds: 5
{{- end }}

{{- define "swarm.probes" -}}
startupProbe:
  {{- include "swarm.check" . | nindent 2 }}
  periodSeconds: 2
  failureThreshold: {{ div (add (.Values.probes.startupSeconds | int) 1) 2 }}
readinessProbe:
  {{- include "swarm.check" . | nindent 2 }}
  periodSeconds: 5
  failureThreshold: 2
livenessProbe:
  {{- include "swarm.check" . | nindent 2 }}
  periodSeconds: 15
  failureThreshold: 3
{{- end }}

{{- define "swarm.identityEnv" -}}
- {name: SWARM_ID_CERT, value: /identity/{{ .Values.identity.cert }}}
- {name: SWARM_ID_KEY, value: /identity/{{ .Values.identity.key }}}
{{- with .Values.identity.keyPassphrase }}
- {name: SWARM_ID_KEY_PASSPHRASE_FILE, value: /identity/{{ . }}}
{{- end }}
{{- if .Values.identity.trustConfigMap }}
- {name: SWARM_ID_TRUST, value: /trust/{{ .Values.identity.trustFile }}}
{{- else }}
- {name: SWARM_ID_CACERT, value: {{ if .Values.identity.caConfigMap }}/trust{{ else }}/identity{{ end }}/{{ .Values.identity.ca }}}
{{- end }}
- {name: SWARM_LOG_FORMAT, value: {{ .Values.swarm.logFormat }}}
{{- end }}

{{- define "swarm.licenseEnv" -}}
- {name: SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_IP, value: {{ include "swarm.licenseHost" . | quote }}}
- {name: SWARM_LICENSE_AUTOPASSJ_SERVER_PRIMARY_PORT, value: {{ include "swarm.licensePort" . | quote }}}
{{- with .Values.swarm.licenseServer.secondaryHost }}
- {name: SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_IP, value: {{ . | quote }}}
- {name: SWARM_LICENSE_AUTOPASSJ_SERVER_SECONDARY_PORT, value: {{ $.Values.swarm.licenseServer.secondaryPort | int | quote }}}
{{- end }}
{{- end }}

{{- define "swarm.settings" -}}
{{- $lines := list }}
{{- range $name, $value := . }}{{ $lines = append $lines (printf "- {name: %s, value: %s}" $name ($value | quote)) }}{{ end }}
{{- join "\n" $lines }}
{{- end }}

{{/* The whole of it is mounted, so that pods see what changes in it. */}}
{{- define "swarm.trustConfigMap" -}}
{{- if and .Values.identity.caConfigMap .Values.identity.trustConfigMap }}
{{- fail "identity.trustConfigMap takes the place of identity.caConfigMap: give one of them." }}
{{- end }}
{{- .Values.identity.trustConfigMap | default .Values.identity.caConfigMap }}
{{- end }}

{{- define "swarm.identityMounts" -}}
- {name: identity, mountPath: /identity, readOnly: true}
{{- if include "swarm.trustConfigMap" . }}
- {name: trust, mountPath: /trust, readOnly: true}
{{- end }}
{{- end }}

{{- define "swarm.identityVolumes" -}}
- name: identity
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- with include "swarm.trustConfigMap" .root }}
- name: trust
  configMap:
    name: {{ . }}
{{- end }}
{{- end }}

{{- define "swarm.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .className }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
