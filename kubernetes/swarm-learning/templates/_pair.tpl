{{/* The pod of an SL and its program. They share two pipes, and nothing else. */}}

{{- define "swarm.pair" -}}
{{- $root := .root }}
{{- $pair := .pair }}
{{- $labels := dict "root" $root "component" $pair.name }}
{{- $name := printf "%s-%s" $root.Release.Name $pair.name }}
{{- $announce := $pair.announce | default dict }}
{{- $sl := $pair.sl | default dict }}
{{- $storage := $sl.storage | default dict }}
{{- $ml := $pair.ml }}
{{- include "swarm.pod" (dict "root" $root "node" $pair) }}
# Each ends when the other does; one that failed starts again, and goes on from the last merged model.
restartPolicy: OnFailure
containers:
  - name: sl
    image: {{ include "swarm.image" (dict "root" $root "image" $root.Values.slImage) }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    {{- include "swarm.contained" $root | nindent 4 }}
    env:
      {{- include "swarm.identityEnv" $root | nindent 6 }}
      {{- include "swarm.licenseEnv" $root | nindent 6 }}
      - {name: THIS_NODE_IP, value: {{ $announce.host | default (include "swarm.host" $labels) | quote }}}
      - {name: SL_FS_PORT, value: {{ $announce.port | default 30305 | int | quote }}}
      - {name: SL_BIND_PORT, value: "30305"}
      {{- with $announce.service }}
      - {name: SL_FS_SERVICE, value: {{ . | quote }}}
      {{- end }}
      - {name: SN_NODE_IP, value: {{ include "swarm.snHost" $root | quote }}}
      - {name: SN_API_SERVER_PORT, value: {{ include "swarm.snPort" $root | quote }}}
      - {name: SL_REQUEST_CHANNEL, value: /tmp/hpe-swarm/request.channel}
      - {name: SL_RESPONSE_CHANNEL, value: /tmp/hpe-swarm/response.channel}
      {{- with $sl.settings }}
      {{- include "swarm.settings" . | nindent 6 }}
      {{- end }}
    ports:
      - {name: files, containerPort: 30305}
    {{- include "swarm.probes" $root | nindent 4 }}
    resources:
      {{- toYaml ($sl.resources | default (dict "requests" (dict "cpu" "250m" "memory" "512Mi") "limits" (dict "memory" "2Gi"))) | nindent 6 }}
    volumeMounts:
      {{- include "swarm.identityMounts" $root | nindent 6 }}
      - {name: data, mountPath: /platform/swarm/SMLNODE}
      - {name: pipes, mountPath: /tmp/hpe-swarm}
  - name: ml
    image: {{ include "swarm.image" (dict "root" $root "image" $ml.image) }}
    imagePullPolicy: {{ $root.Values.images.pullPolicy }}
    {{- include "swarm.contained" $root | nindent 4 }}
    {{- with $ml.command }}
    command:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $ml.args }}
    args:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    env:
      - {name: SL_REQUEST_CHANNEL, value: /tmp/hpe-swarm/request.channel}
      - {name: SL_RESPONSE_CHANNEL, value: /tmp/hpe-swarm/response.channel}
      {{- with $ml.env }}
      {{- include "swarm.settings" . | nindent 6 }}
      {{- end }}
      {{- range $variable, $from := $ml.secretEnv }}
      - name: {{ $variable }}
        valueFrom:
          secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}
      {{- end }}
    resources:
      {{- toYaml ($ml.resources | default (dict "requests" (dict "cpu" "1" "memory" "2Gi") "limits" (dict "memory" "8Gi"))) | nindent 6 }}
    volumeMounts:
      - {name: scratch, mountPath: /tmp}
      - {name: pipes, mountPath: /tmp/hpe-swarm}
      {{- if $ml.sharedMemory }}
      - {name: shared-memory, mountPath: /dev/shm}
      {{- end }}
      {{- with $ml.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "swarm.identityVolumes" (dict "root" $root "secret" ($pair.secret | default $name)) | nindent 2 }}
  - name: data
    {{- if $storage.persistent }}
    persistentVolumeClaim:
      claimName: {{ $name }}
    {{- else }}
    emptyDir: {{ if $storage.size }}{sizeLimit: {{ $storage.size }}}{{ else }}{}{{ end }}
    {{- end }}
  - name: pipes
    emptyDir: {}
  - name: scratch
    emptyDir: {}
  {{- with $ml.sharedMemory }}
  - name: shared-memory
    emptyDir: {medium: Memory, sizeLimit: {{ . }}}
  {{- end }}
  {{- with $ml.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
