"""The smallest models of timm's families, one of each module, and others whose output or head is different."""

# fmt: off
NAMES = [
    "beit_base_patch16_224", "halonet_h1", "test_byobnet", "cait_xxs24_224", "coat_tiny", "convit_tiny",
    "convmixer_768_32", "test_convnext", "cpubone_nano", "crossvit_tiny_240", "csatv2", "cs3darknet_focus_s",
    "cspnext_tiny", "davit_tiny", "deepseek_vit_412m", "deit_tiny_patch16_224", "densenet121", "dla46x_c", "dpn48b",
    "edgenext_xx_small", "efficientformer_l1", "efficientformerv2_s0", "test_efficientnet", "efficientvim_m1",
    "efficientvit_b0", "efficientvit_m0", "vit_tiny_patch16_dinov3_qkvb", "fasternet_t0", "fastvit_t8",
    "focalnet_tiny_srf", "gcvit_xxtiny", "gemma4_vit_167m", "ghostnet_050", "hardcorenas_b", "hgnetv2_b0",
    "hiera_tiny_224", "sam2_hiera_tiny", "hrnet_w18_small", "iformer_t", "inception_next_atto",
    "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small", "levit_128s", "lowformer_b0",
    "test_mambaout", "test_coatnet", "poolformerv2_s12", "gmlp_ti16_224", "lcnet_035", "mobilenetv5_base",
    "mobilevit_xxs", "mvitv2_tiny", "naflexvit_base_patch16_parfac_gap", "nasnetalarge", "nest_tiny",
    "nextvit_small", "test_nfnet", "pit_ti_224", "pnasnet5large", "pvt_v2_b0", "qwen3_vit_88m", "rdnet_tiny",
    "regnetx_002", "repghostnet_050", "repvit_m1", "res2next50", "resnest14d", "test_resnet", "resnetv2_18",
    "rexnet_100", "selecsls42", "legacy_seresnet18", "sequencer2d_s", "shvit_s1", "skresnet18", "starnet_s050",
    "swiftformer_xs", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "swinv2_cr_tiny_224",
    "tiny_vit_5m_224", "tnt_s_legacy_patch16_224", "tresnet_m", "twins_svt_small", "vgg11", "visformer_tiny",
    "test_vit", "vit_tiny_r_s16_p8_224", "test_vit_relpos", "samvit_base_patch16_224", "vitamin_small_224",
    "volo_d1_224", "ese_vovnet19b_slim_dw", "legacy_xception", "xception41p", "xcit_nano_12_p8_224",
    "deit_tiny_distilled_patch16_224", "vit_tiny_patch16_224", "test_vit2", "test_vit3", "test_vit4",
    "vit_base_patch16_siglip_gap_224", "eva02_tiny_patch14_224", "maxvit_rmlp_pico_rw_256", "coatnet_pico_rw_224",
    "test_efficientnet_gn", "resnet50_clip", "mixer_s32_224", "resmlp_12_224", "swin_s3_tiny_224",
    "convnextv2_atto", "vit_relpos_small_patch16_224", "xcit_nano_12_p16_224", "densenet169", "repvit_m0_9",
    "caformer_s18", "hrnet_w18", "regnety_002", "test_convnext2", "mambaout_femto", "nf_regnet_b0",
    "beitv2_base_patch16_224", "hiera_small_abswin_256", "resnetv2_50x1_bit",
]

# Too large for values in a test: built on the meta device alone.
LARGE = [
    "beit_base_patch16_224", "deepseek_vit_412m", "gemma4_vit_167m", "mobilenetv5_base",
    "naflexvit_base_patch16_parfac_gap", "nasnetalarge", "pnasnet5large", "qwen3_vit_88m", "vgg11",
    "samvit_base_patch16_224",
]
# fmt: on

FEW = [
    "test_coatnet",
    "levit_128s",
    "hrnet_w18_small",
    "regnetx_002",
    "vgg11",
    "xcit_nano_12_p8_224",
]  # in the default suite
FASTEST = ["test_coatnet", "levit_128s"]  # and trained there
