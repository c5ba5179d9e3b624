"""Image configs that are legal but odd, as text; `@DIFF_IDS@` stands for the layers' diff_ids."""

from __future__ import annotations

ODD_CONFIGS: dict[str, str] = {
    # `<>&` as they are, as Go would escape them, and in upper-case hex: three spellings of one text.
    "json-escapes": (
        r'{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09Z","config":{"Cmd":["sh","-c",'
        r'"a && b > c < d"],"Env":["X=\u003cy\u003e\u0026z","Y=\u003C\/\t\b\f\u0001"],'
        r'"Labels":{"k":"\"q\" \\"}},'
        r'"history":[{"created_by":"RUN a && b \u003e c # <buildkit>"},{"created_by":"x"}],'
        r'"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    # U+2028 and U+2029, raw and escaped, which Go always escapes; U+007F, which it doesn't.
    "line-separators": (
        '{"architecture":"amd64","os":"linux","config":{"Env":["A=\u2028\u2029","B=\\u2028\\u2029","C=\x7f"]},'
        '"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    # Two, three and four bytes of UTF-8; the same as escapes and a surrogate pair.
    "non-ascii": (
        '{"architecture":"amd64","os":"linux","author":"Zoë Ünï","config":{"Labels":{"ü":"日本語 🐳",'
        '"e":"\\u00fc\\u65e5\\ud83d\\udc33"}},"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    "nulls": (
        '{"architecture":"amd64","os":"linux","created":null,"author":null,"container":null,"config":{"Env":null,'
        '"Cmd":null,"Entrypoint":null,"Labels":null,"Volumes":null,"OnBuild":null,"ExposedPorts":null,'
        '"Healthcheck":null,"StopTimeout":null},"container_config":null,"history":null,'
        '"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    # Present but empty, where `nulls` has null.
    "empty-values": (
        '{"architecture":"amd64","os":"linux","author":"","config":{"Env":[],"Cmd":[],"Entrypoint":[],"Labels":{},'
        '"Volumes":{},"OnBuild":[],"ExposedPorts":{},"Shell":[],"StopTimeout":0},"container_config":{},'
        '"history":[],"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    # Nothing but what an engine must have.
    "bare": ('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'),
    # Keys that nobody knows, at each level, with values of each kind; a key order that nobody writes.
    "odd-keys": (
        '{"zz":1.50e+3,"rootfs":{"x":[null],"diff_ids":@DIFF_IDS@,"type":"layers"},"moby.buildkit.trace":"AAA=",'
        '"os":"linux","config":{"Cmd":["sh"],"com.example":{"a":{}},"ArgsEscaped":true},"architecture":"amd64",'
        '"history":[{"created_by":"a","extra":-0},{"comment":"c","empty_layer":false}],"os.features":["f"]}'
    ),
    # Go takes keys whatever their case.
    "mis-cased-keys": (
        '{"Architecture":"amd64","OS":"linux","CREATED":"2024-05-06T07:08:09Z","Config":{"cmd":["sh"],'
        '"ENV":["A=b"],"workingdir":"/w"},"RootFS":{"Type":"layers","Diff_IDs":@DIFF_IDS@}}'
    ),
    # The last one counts, but objects are merged.
    "repeated-keys": (
        '{"architecture":"arm","architecture":"amd64","os":"linux","config":{"Cmd":["a"],"Labels":{"a":"1"}},'
        '"config":{"Env":["A=b"],"Labels":{"b":"2"}},"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
    # White space wherever JSON lets it stand, and a final line break.
    "spaced-out": (
        '\n{ "architecture" : "amd64" ,\t"os":"linux",\r\n "rootfs" : {'
        ' "type":"layers", "diff_ids" : @DIFF_IDS@ } }\n'
    ),
    "fractional-seconds": (
        '{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09.120000000+02:30","history":['
        '{"created":"2024-05-06T07:08:09.999999999Z"},{"created":"2024-05-06T07:08:09.5-11:00"}],'
        '"rootfs":{"type":"layers","diff_ids":@DIFF_IDS@}}'
    ),
}
